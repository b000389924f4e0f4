use super::*;

fn text(error: Result<impl std::fmt::Debug, ValueError>) -> String {
    error.unwrap_err().to_string()
}

#[test]
fn a_bare_number_is_mib_for_m_and_bytes_for_size() {
    assert_eq!(ram_size("512"), Ok(ByteSize::mib(512)));
    assert_eq!(ram_size("size=2G"), Ok(ByteSize::gib(2)));
    let arg = object("memory-backend-ram,id=m,size=1048576").unwrap();
    assert_eq!(arg.size, ByteSize::mib(1));
    assert_eq!(
        text(ram_size("1G,slots=2")),
        "-m has no property 'slots'; it has: size"
    );
}

#[test]
fn reads_backends() {
    let arg = object("memory-backend-ram,id=m.1,size=1G,share,prealloc=no,merge=on,reserve=off").unwrap();
    assert_eq!(arg.id, "m.1");
    assert_eq!(arg.kind, BackendKind::Ram);
    assert_eq!((arg.share, arg.prealloc), (Some(true), Some(false)));
    assert_eq!((arg.merge, arg.reserve), (Some(true), Some(false)));
    assert_eq!(arg.policy, HostPolicy::Default);
    let arg = object("qom-type=memory-backend-file,id=m,size=1G,mem-path=/a,,b").unwrap();
    assert_eq!(arg.kind, BackendKind::File { path: "/a,b".into() });
    let kind = |text| object(text).unwrap().kind;
    assert_eq!(
        kind("memory-backend-memfd,id=m,size=1G"),
        BackendKind::Memfd { hugetlb: None }
    );
    let huge = BackendKind::Memfd {
        hugetlb: Some(PageSize::HUGE_2M),
    };
    assert_eq!(kind("memory-backend-memfd,id=m,size=1G,hugetlb"), huge);
    assert_eq!(
        kind("memory-backend-memfd,id=m,size=1G,hugetlb=on,hugetlbsize=2M"),
        huge
    );
}

#[test]
fn reads_nodes_repeated_or_in_one_list() {
    let nodes = |list: &str| {
        object(&format!("memory-backend-ram,id=m,size=1G,policy=bind,{list}"))
            .unwrap()
            .policy
    };
    let expected = HostPolicy::Bind(NodeSet::parse("0-1,3").unwrap());
    assert_eq!(nodes("host-nodes=0-1,host-nodes=3"), expected);
    assert_eq!(nodes("host-nodes=0-1,,3"), expected);
}

#[test]
fn refuses_what_makes_no_backend() {
    assert!(text(object("memory-backend-rm,id=m,size=1")).contains("did you mean 'memory-backend-ram'?"));
    assert!(
        text(object("iothread,id=x"))
            .starts_with("unknown object type 'iothread'; known: memory-backend-ram")
    );
    assert_eq!(text(object("id=m,size=1G")), "-object needs 'qom-type=…'");
    assert_eq!(
        text(object("memory-backend-ram,size=1G")),
        "memory-backend-ram needs 'id=…'"
    );
    assert_eq!(
        text(object("memory-backend-ram,id=m")),
        "memory-backend-ram needs 'size=…'"
    );
    assert_eq!(
        text(object("memory-backend-file,id=m,size=1G")),
        "memory-backend-file needs 'mem-path=…'"
    );
    assert!(text(object("memory-backend-ram,id=m,size=1G,hugetlb=on")).contains("no property 'hugetlb'"));
    let memfd = |rest: &str| text(object(&format!("memory-backend-memfd,id=m,size=1G,{rest}")));
    assert_eq!(memfd("hugetlbsize=2M"), "hugetlbsize= needs hugetlb=on");
    assert_eq!(
        memfd("hugetlb,hugetlbsize=3M"),
        "hugetlbsize=3M: expected 2M or 1G"
    );
    assert_eq!(
        memfd("hugetlb,hugetlbsize=4096"),
        "hugetlbsize=4096: expected 2M or 1G"
    );
    assert_eq!(memfd("host-nodes=0"), "host-nodes= needs policy=bind");
    assert_eq!(memfd("policy=bind"), "host-nodes must be set for policy bind");
    assert_eq!(
        memfd("policy=interleave,host-nodes=0"),
        "policy=interleave: expected default or bind"
    );
    assert!(memfd("share=maybe").starts_with("share=maybe: expected on or off"));
    assert!(memfd("policy=bind,host-nodes=zero").starts_with("host-nodes=zero: "));
}

#[test]
fn reads_machine_and_numa() {
    let arg = machine("q35,accel=kvm,memory-backend=m,mem-merge").unwrap();
    assert_eq!(
        arg,
        MachineArg {
            memory_backend: Some("m".to_owned()),
            mem_merge: Some(true)
        }
    );
    assert_eq!(machine("mem-merge=off").unwrap().mem_merge, Some(false));
    assert_eq!(
        text(machine("isapc")),
        "type=isapc: expected q35 or pc or microvm"
    );
    assert_eq!(text(machine("accel=tcg")), "accel=tcg: expected kvm");
    assert_eq!(
        numa("node,nodeid=0,memdev=m").unwrap().memdev.as_deref(),
        Some("m")
    );
    assert_eq!(numa("node").unwrap().memdev, None);
    assert_eq!(text(numa("node,nodeid=1")), "nodeid=1: expected 0");
    assert_eq!(
        text(numa("dist,src=0")),
        "'dist' is not accepted here; accepted: node"
    );
    assert_eq!(text(numa("memdev=m")), "-numa needs 'type=…'");
}
