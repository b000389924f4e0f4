use proptest::prelude::*;

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
    let bind = HostPolicy::bind(NodeSet::parse("1-2").unwrap());
    assert_eq!(
        misplaced(&found("bind:1-2", &[(1, 5), (2, 1)]), &bind, true, 0),
        BTreeMap::new()
    );
    let expected = BTreeMap::from([(0, ByteSize::mib(6))]);
    assert_eq!(
        misplaced(&found("bind:1-2", &[(0, 3), (1, 5)]), &bind, true, 0),
        expected
    );
    assert_eq!(
        misplaced(&found("default", &[(0, 3)]), &HostPolicy::Default, true, 0),
        BTreeMap::new()
    );
}

#[test]
fn the_kernels_words_and_ours_agree() {
    let bind = HostPolicy::bind(NodeSet::parse("0-1,3").unwrap());
    assert_eq!(read_back(&found("bind:0-1,3", &[])), bind.to_string());
    assert_eq!(read_back(&found("default", &[])), HostPolicy::Default.to_string());
}

#[test]
fn reads_the_policies_of_all_names() {
    for placing in Placing::ALL {
        let kernel = match placing {
            Placing::Bind => "bind:0",
            Placing::Preferred => "prefer:0",
            Placing::PreferredMany => "prefer (many):0",
            Placing::Interleave => "interleave:0",
            Placing::WeightedInterleave => "weighted interleave:0",
        };
        let policy = HostPolicy::Nodes(placing, NodeSet::from_iter([0]));
        assert_eq!(read_back(&found(kernel, &[])), policy.to_string());
    }
    assert_eq!(read_back(&found("local", &[])), HostPolicy::Local.to_string());
}

#[test]
fn an_interleaving_is_judged_when_it_is_complete() {
    let policy = HostPolicy::Nodes(Placing::Interleave, NodeSet::from_iter([0, 1]));
    let even = found("interleave:0-1", &[(0, 33), (1, 32)]);
    let uneven = found("interleave:0-1", &[(0, 48), (1, 16)]);
    assert_eq!(misplaced(&even, &policy, true, 0), BTreeMap::new());
    assert_eq!(misplaced(&uneven, &policy, false, 0), BTreeMap::new());
    // 32 pages are its part, and one more may be.
    let expected = BTreeMap::from([(0, ByteSize::mib(2 * 15))]);
    assert_eq!(misplaced(&uneven, &policy, true, 0), expected);
    let elsewhere = found("interleave:0-1", &[(0, 8), (1, 8), (2, 1)]);
    let expected = BTreeMap::from([(2, ByteSize::mib(2))]);
    assert_eq!(misplaced(&elsewhere, &policy, true, 0), expected);
}

proptest! {
    /// However the turns fall, an interleaving with the right weights is not misplaced; all on one node is.
    #[test]
    fn parts_by_weight_have_room_for_a_turn(
        weights in prop::collection::vec(1_u64..9, 2..5),
        turns in 8_u64..2000,
        started in 0_u64..9,
    ) {
        let page = 2 << 20;
        let weights: BTreeMap<u32, u64> = (0..).zip(weights).collect();
        let total = turns * weights.values().sum::<u64>() + started.min(weights[&0]);
        let first = turns * weights[&0] + started.min(weights[&0]);
        prop_assert!(first * page <= part(total * page, 0, &weights, page));
        prop_assert!(total * page > part(total * page, 0, &weights, page));
    }
}
