use super::*;
use crate::cli::object::{self, Object};

fn object(text: &str) -> Result<ObjectArg, ValueError> {
    object::object(text).map(|object| match object {
        Object::Memory(backend) => backend,
        Object::Rng(_) => panic!("{text} is no backend"),
    })
}

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
    assert_eq!((arg.share, arg.prealloc), (Some(true), Some(Prealloc::Off)));
    assert_eq!((arg.merge, arg.reserve), (Some(true), Some(false)));
    assert_eq!(arg.policy, HostPolicy::Default);
    let mode = |text: &str| object(&format!("memory-backend-ram,id=m,size=1G,prealloc={text}"));
    assert_eq!(mode("background").unwrap().prealloc, Some(Prealloc::Background));
    assert_eq!(mode("on").unwrap().prealloc, Some(Prealloc::On));
    assert!(text(mode("later")).contains("on, off or background"));
    let arg = object("qom-type=memory-backend-file,id=m,size=1G,mem-path=/a,,b").unwrap();
    assert_eq!(arg.kind, BackendKind::file("/a,b"));
    let kind = |text| object(text).unwrap().kind;
    assert_eq!(
        kind("memory-backend-memfd,id=m,size=1G"),
        BackendKind::memfd(None)
    );
    let huge = BackendKind::memfd(Some(PageSize::HUGE_2M));
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
    let expected = HostPolicy::bind(NodeSet::parse("0-1,3").unwrap());
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
    assert!(memfd("host-nodes=0").starts_with("host-nodes= needs a policy="));
    assert!(memfd("host-nodes=0,policy=local").starts_with("policy=local takes no host-nodes="));
    assert_eq!(memfd("strict=on"), "strict=on needs host-nodes= to compare with");
    assert!(memfd("prealloc-threads=0").starts_with("prealloc-threads=0: expected a number from 1"));
    assert_eq!(memfd("thp=never"), "thp=never: expected on, off or default");
    assert_eq!(memfd("lock=always"), "lock=always: expected on, off or on-fault");
    assert_eq!(memfd("policy=bind"), "host-nodes must be set for policy bind");
    assert_eq!(
        memfd("policy=interleaved,host-nodes=0"),
        "policy=interleaved: expected default, local, bind, preferred, preferred-many, interleave, weighted-interleave"
    );
    assert!(memfd("share=maybe").starts_with("share=maybe: expected on or off"));
    assert!(memfd("policy=bind,host-nodes=zero").starts_with("host-nodes=zero: "));
}

#[test]
fn reads_machine() {
    let arg = machine("q35,accel=kvm,memory-backend=m,mem-merge").unwrap();
    assert_eq!(
        arg,
        MachineArg {
            memory_backend: Some("m".to_owned()),
            mem_merge: Some(true),
            dump_guest_core: None,
        }
    );
    assert_eq!(machine("mem-merge=off").unwrap().mem_merge, Some(false));
    assert_eq!(
        text(machine("isapc")),
        "type=isapc: expected q35 or pc or microvm"
    );
    assert_eq!(text(machine("accel=tcg")), "accel=tcg: expected kvm");
}

#[test]
fn reads_what_becomes_of_pages() {
    let line = "memory-backend-memfd,id=m,size=1G,seal=off,dump=off,thp=off,lock=on-fault,prealloc-threads=3";
    let arg = object(line).unwrap();
    let memfd = BackendKind::Memfd {
        hugetlb: None,
        seal: false,
    };
    assert_eq!((arg.kind, arg.dump), (memfd, Some(false)));
    assert_eq!((arg.thp, arg.lock), (Thp::Off, Some(Lock::OnFault)));
    assert_eq!(arg.prealloc_threads, NonZeroUsize::new(3));
    let lock = |text: &str| overcommit(text).unwrap().mem_lock;
    assert_eq!(lock("mem-lock"), Some(Lock::On));
    assert_eq!(lock("mem-lock=off"), Some(Lock::Off));
    assert_eq!(lock("mem-lock=on-fault"), Some(Lock::OnFault));
    for (text, check) in [
        ("check=refuse", BudgetCheck::Refuse),
        ("check=warn", BudgetCheck::Warn),
        ("mem-lock=on,check=off", BudgetCheck::Off),
    ] {
        assert_eq!(overcommit(text).unwrap().check, Some(check), "{text}");
    }
    assert!(text(overcommit("check=on")).contains("refuse or warn or off"));
    assert_eq!(
        machine("dump-guest-core=off").unwrap().dump_guest_core,
        Some(false)
    );
}

#[test]
fn reads_every_policy() {
    let nodes = NodeSet::from_iter([0, 1]);
    for placing in Placing::ALL {
        let line = format!(
            "memory-backend-ram,id=m,size=1G,host-nodes=0-1,policy={},strict=on",
            placing.name()
        );
        let arg = object(&line).unwrap();
        assert_eq!(arg.policy, HostPolicy::Nodes(placing, nodes.clone()));
        assert!(arg.strict);
    }
    let arg = object("memory-backend-ram,id=m,size=1G,policy=local").unwrap();
    assert_eq!(arg.policy, HostPolicy::Local);
}

#[test]
fn reads_files() {
    let file = |rest: &str| object(&format!("memory-backend-file,id=m,size=1G,mem-path=/x,{rest}"));
    let mut expected = FileSpec::new("/x");
    expected.offset = ByteSize::mib(2);
    expected.align = Some(ByteSize::gib(1));
    expected.discard = true;
    let arg = file("offset=2M,align=1G,discard-data=on,readonly=off,rom=auto,pmem=off").unwrap();
    assert_eq!(arg.kind, BackendKind::File(expected));
    let BackendKind::File(template) = file("readonly=on,rom=off").unwrap().kind else {
        panic!("another kind")
    };
    assert!(template.read_only);
    assert!(text(file("readonly=on")).starts_with("readonly=on without rom=off is refused: a guest"));
    assert!(text(file("rom=on")).starts_with("rom=on is refused: a guest"));
    assert!(text(file("pmem=on")).starts_with("pmem=on is refused: "));
    assert_eq!(text(file("rom=maybe")), "rom=maybe: expected on, off or auto");
}
