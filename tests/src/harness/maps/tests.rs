use super::*;

const SMAPS: &str = "\
7f0000000000-7f0020000000 rw-s 00000000 00:01 1045 /memfd:mem0 (deleted)
Size:             524288 kB
Rss:                2048 kB
Shared_Hugetlb:     4096 kB
THPeligible:           1
VmFlags: rd wr sh mr mw me ms sd mg
7f0020000000-7f0020001000 rw-p 00000000 00:00 0
Rss:                   4 kB
";

#[test]
fn smaps_are_read() {
    let mappings = parse_smaps(SMAPS);
    assert_eq!(mappings.len(), 2);
    let memory = &mappings[0];
    assert_eq!((memory.size(), memory.shared), (512 << 20, true));
    assert_eq!(memory.name, "/memfd:mem0 (deleted)");
    assert_eq!(memory.resident(), (2048 + 4096) * 1024);
    assert_eq!(memory.field("THPeligible"), 1);
    assert!(memory.flags.iter().any(|flag| flag == "mg"));
    assert_eq!((mappings[1].name.as_str(), mappings[1].shared), ("", false));
}

#[test]
fn numa_maps_are_read() {
    let line = "7f00 bind:1 anon=512 dirty=512 N0=2 N1=510 kernelpagesize_kB=2048";
    assert_eq!(parse_numa(line), BTreeMap::from([(0, 2 << 21), (1, 510 << 21)]));
}

#[test]
fn our_own_memory_is_there() {
    let pid = std::process::id();
    let held = vec![1_u8; 64 << 20];
    assert!(guest_resident(pid).unwrap() >= 64 << 20);
    assert!(figure(pid, "status", Some("VmRSS")).unwrap() > 0);
    drop(held);
}
