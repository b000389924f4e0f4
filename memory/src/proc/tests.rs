use super::*;

const SMAPS: &str = "\
7f0000000000-7f0000200000 rw-p 00000000 00:00 0 
Size:               2048 kB
Rss:                   4 kB
VmFlags: rd wr mr mw me ac 
7f0000300000-7f0000500000 rw-s 00000000 00:01 12                         /memfd:a b: c (deleted)
Size:               2048 kB
KernelPageSize:        4 kB
Rss:                1024 kB
THPeligible:           1
VmFlags: rd wr sh mr mw me ms mg dd 
7f0000600000-7f0000700000 rw-p 00000000 00:00 0 
Rss:                 999 kB
";

fn smaps_at(start: u64) -> Option<Smaps> {
    find_smaps(SMAPS.as_bytes(), &[start].into())
        .unwrap()
        .remove(&start)
}

fn numa_at(text: &str, start: u64) -> Option<NumaMaps> {
    find_numa_maps(text.as_bytes(), &[start].into())
        .unwrap()
        .remove(&start)
}

#[test]
fn finds_several_entries_in_one_go() {
    let starts = [0x7f00_0060_0000, 0x7f00_0000_0000].into();
    let found = find_smaps(SMAPS.as_bytes(), &starts).unwrap();
    let sizes: Vec<_> = found
        .values()
        .map(|entry| entry.size("Rss").bytes() >> 10)
        .collect();
    assert_eq!(sizes, [4, 999]);
    let text = "1000 default N0=1\n2000 local\n3000 bind:1 N1=7\n";
    let found = find_numa_maps(text.as_bytes(), &[0x3000, 0x1000].into()).unwrap();
    let policies: Vec<_> = found.values().map(|line| line.policy.as_str()).collect();
    assert_eq!(policies, ["default", "bind:1"]);
}

#[test]
fn finds_the_entry_of_an_address() {
    let entry = smaps_at(0x7f00_0030_0000).unwrap();
    assert_eq!(entry.size("Rss"), ByteSize::mib(1));
    assert_eq!(entry.number("THPeligible"), 1);
    assert_eq!(entry.size("Swap"), ByteSize::ZERO);
    assert!(entry.flag("mg") && entry.flag("sh") && !entry.flag("ac"));
    let last = smaps_at(0x7f00_0060_0000).unwrap();
    assert_eq!(last.size("Rss"), ByteSize::from_bytes(999 << 10));
    assert_eq!(smaps_at(0x7f00_0050_0000), None);
}

#[test]
fn finds_the_nodes_of_an_address() {
    let text = "7f0000000000 default\n\
                7f0000300000 bind:0-1 file=/memfd:N0=x\\040(deleted) huge dirty=3 N0=1 N1=2 kernelpagesize_kB=2048\n";
    let found = numa_at(text, 0x7f00_0030_0000).unwrap();
    assert_eq!(found.policy, "bind:0-1");
    assert_eq!(found.page_kib, 2048);
    assert_eq!(found.nodes, BTreeMap::from([(0, 1), (1, 2)]));
    assert_eq!(numa_at(text, 1), None);
}

#[test]
fn policies_may_have_a_space() {
    for policy in [
        "prefer (many):0-1",
        "weighted interleave:0",
        "prefer:1",
        "interleave=static:0-1",
    ] {
        for rest in [" anon=4 N0=1 N1=3 kernelpagesize_kB=4", ""] {
            let text = format!("7f0000000000 {policy}{rest}\n");
            let found = numa_at(&text, 0x7f00_0000_0000).unwrap();
            assert_eq!(found.policy, policy);
            assert_eq!(found.nodes.len(), if rest.is_empty() { 0 } else { 2 });
        }
    }
}
