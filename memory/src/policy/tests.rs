use super::*;

fn found(policy: &str, nodes: &[(u32, u64)]) -> NumaMaps {
    NumaMaps {
        policy: policy.to_owned(),
        page_kib: 2048,
        nodes: nodes.iter().copied().collect(),
    }
}

#[test]
fn pages_on_other_nodes_are_misplaced() {
    let bind = HostPolicy::Bind(NodeSet::parse("1-2").unwrap());
    assert_eq!(
        misplaced(&found("bind:1-2", &[(1, 5), (2, 1)]), &bind),
        BTreeMap::new()
    );
    let expected = BTreeMap::from([(0, ByteSize::mib(6))]);
    assert_eq!(misplaced(&found("bind:1-2", &[(0, 3), (1, 5)]), &bind), expected);
    assert_eq!(
        misplaced(&found("default", &[(0, 3)]), &HostPolicy::Default),
        BTreeMap::new()
    );
}

#[test]
fn the_kernels_words_and_ours_agree() {
    let bind = HostPolicy::Bind(NodeSet::parse("0-1,3").unwrap());
    assert_eq!(read_back(&found("bind:0-1,3", &[])), bind.to_string());
    assert_eq!(read_back(&found("default", &[])), HostPolicy::Default.to_string());
}
