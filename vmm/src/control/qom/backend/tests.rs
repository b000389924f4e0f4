use memory::ram::Ram;
use memory::size::{ByteSize, PageSize};

use super::*;
use crate::control::qom;
use crate::control::testing::{Fake, fake};

const PATH: &str = "/objects/ram";
/// A directory on tmpfs.
const SHM: &str = "/dev/shm";

/// A machine with a backend of each kind.
fn machine() -> Fake {
    let mut private = BackendSpec::new("ram", BackendKind::Ram, ByteSize::mib(4));
    private.thp = Thp::Off;
    let memfd = BackendSpec::new("fd", BackendKind::memfd(None), ByteSize::mib(2));
    let file = BackendSpec::new("file", BackendKind::file(SHM), ByteSize::mib(2));
    Fake {
        ram: Ram::open(vec![private, memfd, file], &()).unwrap(),
        balloon: None,
        ..fake()
    }
}

fn refused(result: Result<impl std::fmt::Debug, Failure>) -> (&'static str, String) {
    let failure = result.unwrap_err();
    (failure.class.name(), failure.desc.into_owned())
}

fn generic(desc: &str) -> (&'static str, String) {
    ("GenericError", desc.to_owned())
}

#[test]
fn every_backend_is_listed_and_every_property_can_be_read() {
    let target = machine();
    let objects = qom::list(&target, "/objects").unwrap();
    for (name, kind) in [
        ("ram", "child<memory-backend-ram>"),
        ("fd", "child<memory-backend-memfd>"),
        ("file", "child<memory-backend-file>"),
    ] {
        let objects = objects.as_array().unwrap();
        assert!(
            objects.contains(&json!({ "name": name, "type": kind })),
            "{objects:?}"
        );
        let path = qom::get(&target, "/objects", name).unwrap();
        assert_eq!(path, json!(format!("/objects/{name}")));
        assert_eq!(
            qom::get(&target, name, "size"),
            qom::get(&target, path.as_str().unwrap(), "size")
        );
        for entry in qom::list(&target, path.as_str().unwrap())
            .unwrap()
            .as_array()
            .unwrap()
        {
            let property = entry["name"].as_str().unwrap();
            let value = qom::get(&target, path.as_str().unwrap(), property).unwrap();
            let fits = match (entry["type"].as_str().unwrap(), property) {
                ("int", "prealloc-threads") => value.is_null(),
                ("int", "host-nodes") => value.is_array(),
                ("int", _) => value.is_u64(),
                ("bool", _) => value.is_boolean(),
                (_, _) => value.is_string(),
            };
            assert!(fits, "{entry}: {value}");
        }
    }
    for (path, name, value) in [
        (PATH, "type", json!("memory-backend-ram")),
        (PATH, "size", json!(4 << 20)),
        (PATH, "share", json!(false)),
        (PATH, "thp", json!("off")),
        (PATH, "lock", json!("off")),
        (PATH, "policy", json!("default")),
        ("/objects/fd", "share", json!(true)),
        ("/objects/fd", "seal", json!(true)),
        ("/objects/fd", "hugetlb", json!(false)),
        ("/objects/file", "mem-path", json!(SHM)),
        ("/objects/file", "rom", json!("off")),
    ] {
        assert_eq!(qom::get(&target, path, name), Ok(value), "{path} {name}");
    }
}

#[test]
fn merge_and_dump_change_in_the_kernel_and_what_is_said_follows() {
    let target = machine();
    let backend = &target.ram.backends()[0];
    for on in [true, false, true, true, false] {
        for name in ["merge", "dump"] {
            qom::set(&target, PATH, name, &json!(on)).unwrap();
            assert_eq!(qom::get(&target, PATH, name), Ok(json!(on)), "{name}");
        }
        let effective = backend.effective();
        assert_eq!((effective.merge, effective.dump), (on, on));
        // What the kernel has, not what we remember.
        let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let range = format!("{:x}-", target.ram.regions()[0].host_address());
        let (_, entry) = smaps.split_once(&range).unwrap();
        let flags = entry.lines().find(|line| line.starts_with("VmFlags:")).unwrap();
        assert_eq!(
            (flags.contains(" mg"), flags.contains(" dd")),
            (on, !on),
            "{flags}"
        );
    }
    assert_eq!(backend.page_size(), PageSize::BASE);
    // Off by the start's default is off here too, without an error.
    qom::set(&target, "/objects/fd", "merge", &json!(false)).unwrap();
}

#[test]
fn a_preallocation_begins_while_the_guest_runs() {
    let target = machine();
    let file = &target.ram.backends()[2];
    let lazy = file.resident().unwrap();
    assert_eq!(lazy, ByteSize::ZERO);
    assert_eq!(qom::get(&target, "file", "prealloc"), Ok(json!(false)));
    qom::set(&target, "file", "prealloc", &json!(false)).unwrap();
    qom::set(&target, "file", "prealloc", &json!(true)).unwrap();
    let started = std::time::Instant::now();
    while file.resident().unwrap() < ByteSize::mib(2) {
        assert!(started.elapsed().as_secs() < 60, "{:?}", file.prealloc());
        std::thread::yield_now();
    }
    assert_eq!(qom::get(&target, "file", "prealloc"), Ok(json!(true)));
    let (_, desc) = refused(qom::set(&target, "file", "prealloc", &json!(false)));
    assert!(desc.contains("cannot be undone"), "{desc}");
}

#[test]
fn what_cannot_change_says_so() {
    let target = machine();
    let set = |path, name, value| refused(qom::set(&target, path, name, &value));
    assert_eq!(
        set(PATH, "size", json!(1)),
        generic("cannot change property size of memory-backend-ram")
    );
    assert_eq!(
        set(PATH, "nope", json!(1)),
        generic("Property 'memory-backend-ram.nope' not found")
    );
    assert_eq!(
        set(PATH, "seal", json!(true)),
        generic("Property 'memory-backend-ram.seal' not found")
    );
    assert_eq!(
        set(PATH, "merge", json!("on")),
        generic("Invalid parameter type for 'merge', expected: boolean")
    );
    assert_eq!(set("/objects/nope", "merge", json!(true)).0, "DeviceNotFound");
    let (_, desc) = set("/objects/fd", "merge", json!(true));
    assert!(desc.contains("KSM merges private anonymous pages only"), "{desc}");
    assert_eq!(qom::get(&target, "/objects/fd", "merge"), Ok(json!(false)));
    assert_eq!(
        refused(qom::get(&target, "/objects", "nope")),
        generic("Property 'container.nope' not found")
    );
}
