use super::*;

fn shortage(nodes: Option<&str>, promised: u64) -> Shortage {
    Shortage {
        id: "mem0".to_owned(),
        needed: 64,
        pool: Pool {
            page: PageSize::HUGE_2M,
            nodes: nodes.map(|text| NodeSet::parse(text).unwrap()),
            total: 16,
            free: 12,
            reserved: 4,
            used: 0,
            growth: 0,
        },
        promised,
    }
}

#[test]
fn the_message_has_the_numbers_and_what_to_do() {
    let host = shortage(None, 0).to_string();
    assert!(
        host.starts_with("backend 'mem0' needs 64 pages of 2 MiB: 12 free (16 in the pool, 4 reserved); ")
    );
    let command = "echo 68 > /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";
    assert!(host.contains(command), "{host}");
    let node = shortage(Some("1"), 0).to_string();
    assert!(node.starts_with(
        "backend 'mem0' needs 64 pages of 2 MiB on node 1: 12 free (16 in the pool, 4 reserved); "
    ));
    assert!(
        node.contains("/sys/devices/system/node/node1/hugepages/hugepages-2048kB/nr_hugepages"),
        "{node}"
    );
    let two = shortage(None, 8).to_string();
    assert!(
        two.contains("of which other backends of this guest need 8"),
        "{two}"
    );
}

#[test]
fn claims_count_where_they_come_out_of_the_same_pool() {
    let claim = |page, nodes: Option<&str>| Claim {
        page,
        nodes: nodes.map(|text| NodeSet::parse(text).unwrap()),
        pages: 1,
    };
    let huge = PageSize::HUGE_2M;
    let cases = [
        (None, None, true),
        (Some("0"), None, true),
        (None, Some("0"), false),
        (Some("0"), Some("0-1"), true),
        (Some("0-1"), Some("0"), false),
    ];
    for (first, second, expected) in cases {
        let drawn = claim(huge, first).draws_on(&claim(huge, second));
        assert_eq!(drawn, expected, "{first:?} {second:?}");
    }
    assert!(!claim(PageSize::HUGE_1G, None).draws_on(&claim(huge, None)));
}
