//! Every kind of memory × policy × share × preallocation: what the host's kernel says about it, and that Ballast says the
//! same. The guests are loaded and never run.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use rustix::fs::SealFlags;
use serde_json::{Value, json};
use tests::harness::backing::{self, HUGE_PAGE, ID};
use tests::harness::hugepages::{Pages, Pool};
use tests::harness::maps;
use tests::harness::vm::{Launch, Vm};
use tests::harness::{Error, Result};

const RAM: u64 = 64 << 20;
/// 2 MiB pages on each node: enough for any guest here, and for only one.
const PAGES: u64 = 40;
const NODES: [Pool; 2] = [Pool::node_2m(0), Pool::node_2m(1)];
/// One turn of an interleaving, at most.
const TURN: u64 = HUGE_PAGE;

/// A kind of memory.
#[derive(Clone, Copy, Debug)]
struct Kind {
    /// The value of `-object` up to what all kinds have.
    object: &'static str,
    shared: bool,
    huge: bool,
    /// A file that stays behind.
    file: Option<&'static str>,
}

const fn kind(object: &'static str, shared: bool, huge: bool, file: Option<&'static str>) -> Kind {
    Kind {
        object,
        shared,
        huge,
        file,
    }
}

#[rustfmt::skip]
const KINDS: [Kind; 10] = [
    kind("memory-backend-ram", false, false, None),
    kind("memory-backend-ram,share=on", true, false, None),
    kind("memory-backend-memfd", true, false, None),
    kind("memory-backend-memfd,seal=off,hugetlb=on", true, true, None),
    kind("memory-backend-file,mem-path=/dev/shm", true, false, None),
    kind("memory-backend-file,mem-path=/dev/hugepages,share=off", true, true, None),
    kind("memory-backend-file,mem-path=/dev/shm/table,share=on", true, false, Some("/dev/shm/table")),
    kind("memory-backend-file,mem-path=/dev/hugepages/table,share=on", true, true, Some("/dev/hugepages/table")),
    kind("memory-backend-file,mem-path=/dev/hugepages/table", false, true, Some("/dev/hugepages/table")),
    kind("memory-backend-file,mem-path=/dev/shm/table,share=on,offset=2M,discard-data=on", true, false, Some("/dev/shm/table")),
];

/// A policy, what numa_maps calls it, and how many of 64 parts lie on each node once all pages are there. Ballast runs on
/// node 0.
type Policy = (&'static str, &'static str, [u64; 2]);

#[rustfmt::skip]
const POLICIES: [Policy; 7] = [
    ("", "default", [64, 0]),
    (",policy=bind,host-nodes=1", "bind:1", [0, 64]),
    (",policy=preferred,host-nodes=1", "prefer:1", [0, 64]),
    (",policy=interleave,host-nodes=0-1,strict=on", "interleave:0-1", [32, 32]),
    (",policy=local", "local", [64, 0]),
    (",policy=preferred-many,host-nodes=0-1", "prefer (many):0-1", [64, 0]),
    (",policy=weighted-interleave,host-nodes=0-1", "weighted interleave:0-1", [32, 32]),
];

/// Each kind with some policies, so that each pair of neighbours in the tables was seen once.
#[test]
#[ignore = "needs the lab: cargo lab test"]
fn memory_lies_where_it_was_asked() -> Result<()> {
    let _pools = pools()?;
    for (number, kind) in KINDS.iter().enumerate() {
        check(*kind, POLICIES[number % POLICIES.len()], true)?;
        check(*kind, POLICIES[(number + 3) % POLICIES.len()], number % 3 != 0)?;
    }
    Ok(())
}

#[test]
#[ignore = "needs the lab: cargo lab test"]
fn long_every_memory_lies_where_it_was_asked() -> Result<()> {
    let _pools = pools()?;
    for kind in KINDS {
        for policy in POLICIES {
            for prealloc in [false, true] {
                check(kind, policy, prealloc)?;
            }
        }
    }
    Ok(())
}

fn pools() -> Result<[tests::harness::knob::Knob; 2]> {
    Ok([NODES[0].set(PAGES)?, NODES[1].set(PAGES)?])
}

fn check(kind: Kind, (policy, name, parts): Policy, prealloc: bool) -> Result<()> {
    let row = format!("{}{policy}, prealloc {prealloc}", kind.object);
    println!("{row}");
    let switch = if prealloc { "on" } else { "off" };
    let object = format!("{},id={ID},size={RAM},prealloc={switch}{policy}", kind.object);
    let vm = Launch::tiny()
        .under(&["taskset", "1"])
        .args(["-S", "-object", &object, "-machine"])
        .arg(format!("memory-backend={ID}"))
        .qmp()
        .start()?;
    let mut report = vm.qmp()?.command("x-ballast-query-memory", Value::Null)?;
    let report = report["backends"][0].take();

    let mapping = backing::only_mapping(&vm)?;
    assert_eq!(mapping.has_flag("sh"), kind.shared, "{row}");
    let line = maps::numa_line(vm.pid(), &mapping)?;
    let (_, rest) = line.split_once(' ').unwrap_or_default();
    assert!(rest.starts_with(&format!("{name} ")), "{row}: {line}");
    let nodes = backing::nodes(&vm)?;
    let held = held(kind, &vm)?;
    let total: u64 = nodes.values().sum();
    if prealloc {
        for (node, part) in (0..).zip(parts) {
            let (found, wanted) = (nodes.get(&node).copied().unwrap_or(0), RAM / 64 * part);
            assert!(
                found.abs_diff(wanted) <= TURN,
                "{row}: node {node} has {found} of {wanted}"
            );
        }
        assert_eq!((total, held), (RAM, RAM), "{row}");
    } else {
        assert!(total > 0 && total < RAM && held < RAM, "{row}: {total} {held}");
    }
    if kind.huge {
        check_pools(&row, &nodes, prealloc)?;
    }

    let said = |name: &str| report["effective"][name].clone();
    let ours = ["policy", "prealloc", "share"].map(said);
    let words = name.replacen(':', " ", 1);
    let words = words
        .replace("prefer (many)", "preferred-many")
        .replace("prefer ", "preferred ")
        .replace("weighted interleave", "weighted-interleave");
    assert_eq!(ours, [json!(words), json!(prealloc), json!(kind.shared)], "{row}");
    assert_eq!(report["resident"], held, "{row}");
    let page = if kind.huge { HUGE_PAGE } else { backing::BASE_PAGE };
    assert_eq!(backing::nodes_said(&report, page), nodes, "{row}");
    let named = policy.contains("host-nodes");
    assert_eq!(
        report["misplaced"],
        if named { json!(0) } else { json!(null) },
        "{row}"
    );
    assert_eq!(report["warnings"], json!([]), "{row}");
    drop(vm);
    kind.file.map_or(Ok(()), |file| {
        let path = Path::new(file);
        fs::remove_file(path).map_err(Error::file("remove", path))
    })
}

/// What the host holds for the guest: `Rss`, the blocks of a file, or pages out of the pool.
fn held(kind: Kind, vm: &Vm) -> Result<u64> {
    match (kind.huge, kind.shared) {
        (true, _) => {
            let pages = |pool: &Pool| pool.pages().map(|pages| pages.total - pages.free);
            let taken = NODES.iter().map(pages).sum::<Result<u64>>()?;
            Ok(taken * HUGE_PAGE)
        }
        (false, true) => maps::file_bytes(vm.pid(), &vm.memory()?),
        (false, false) => vm.resident(),
    }
}

/// The pages left each node's pool, and those that will be needed are reserved.
fn check_pools(row: &str, nodes: &BTreeMap<u32, u64>, prealloc: bool) -> Result<()> {
    let mut taken = 0;
    for (node, pool) in (0..).zip(NODES) {
        let Pages { total, free, .. } = pool.pages()?;
        let here = nodes.get(&node).copied().unwrap_or(0) / HUGE_PAGE;
        assert_eq!(total - free, here, "{row}: node {node}");
        taken += here;
    }
    let all = tests::harness::hugepages::ALL_2M.pages()?;
    assert_eq!(all.reserved, Some(RAM / HUGE_PAGE - taken), "{row}");
    assert_eq!(taken == RAM / HUGE_PAGE, prealloc, "{row}");
    Ok(())
}

/// A property, the mark in `VmFlags` that it leaves, and whether it is there.
const MARKS: [(&str, &str, bool); 9] = [
    ("memory-backend-ram,lock=on", "lo", true),
    ("memory-backend-memfd,lock=on-fault", "lo", true),
    ("memory-backend-ram,dump=off", "dd", true),
    ("memory-backend-ram", "dd", false),
    ("memory-backend-ram,thp=on", "hg", true),
    ("memory-backend-ram,thp=off", "nh", true),
    ("memory-backend-ram,reserve=on", "ac", true),
    ("memory-backend-memfd,hugetlb=on,reserve=off", "nr", true),
    ("memory-backend-ram,merge=on", "mg", true),
];

#[test]
#[ignore = "needs the lab: cargo lab test"]
fn properties_leave_their_marks() -> Result<()> {
    let _pools = pools()?;
    for (object, mark, there) in MARKS {
        let vm = Launch::tiny()
            .args(["-S", "-object", &format!("{object},id={ID},size={RAM}")])
            .args(["-machine", &format!("memory-backend={ID}")])
            .qmp()
            .start()?;
        vm.qmp()?;
        let mapping = backing::only_mapping(&vm)?;
        assert_eq!(mapping.has_flag(mark), there, "{object}: {:?}", mapping.flags);
        if object.ends_with("lock=on") {
            assert_eq!(
                (mapping.resident(), mapping.field("Locked")),
                (RAM, RAM),
                "{object}"
            );
        }
    }
    Ok(())
}

/// A backend that shows its property only beside others: a node each of one guest.
#[test]
#[ignore = "needs the lab: cargo lab test"]
fn files_and_seals_are_as_asked() -> Result<()> {
    const SIZE: usize = 48 << 20;
    const OFFSET: u64 = 6 << 20;
    const ALIGN: u64 = 1 << 30;
    let directory = tempfile::tempdir_in("/dev/shm").map_err(Error::file("create", Path::new("/dev/shm")))?;
    let [shared, template] = ["shared", "template"].map(|name| directory.path().join(name));
    fs::write(&template, vec![7; SIZE]).map_err(Error::file("write", &template))?;
    let file = format!("memory-backend-file,size={SIZE},mem-path");
    let objects = [
        format!(
            "{file}={},share=on,offset={OFFSET},align={ALIGN}",
            shared.display()
        ),
        format!("{file}={},readonly=on,rom=off", template.display()),
        format!("memory-backend-memfd,size={SIZE}"),
        format!("memory-backend-memfd,size={SIZE},seal=off"),
    ];
    let mut launch = Launch::tiny().arg("-S").qmp();
    for (node, object) in objects.iter().enumerate() {
        let cpus = if node == 0 { ",cpus=0" } else { "" };
        let numa = format!("node,nodeid={node},memdev=node{node}{cpus}");
        launch = launch.args(["-object", &format!("{object},id=node{node}"), "-numa", &numa]);
    }
    let mut vm = launch.start()?;
    let mut qmp = vm.qmp()?;

    let memory = vm.memory()?;
    let named = |path: &Path| memory.iter().find(|found| Path::new(&found.name) == path);
    let found = named(&shared).expect("the file is mapped");
    // The guest has it at address 0.
    assert_eq!(
        (found.offset, found.start % ALIGN, found.shared),
        (OFFSET, 0, true),
        "{found:?}"
    );
    let size = |path: &Path| {
        fs::metadata(path)
            .map(|data| data.len())
            .map_err(Error::file("find", path))
    };
    assert_eq!(size(&shared)?, OFFSET + SIZE as u64);
    let found = named(&template).expect("the template is mapped");
    assert_eq!((found.shared, found.has_flag("wr")), (false, true), "{found:?}");

    let (mut seals, mut modes) = (Vec::new(), Vec::new());
    let open = Path::new("/proc").join(vm.pid().to_string());
    for entry in fs::read_dir(open.join("fd"))
        .map_err(Error::file("read", &open))?
        .flatten()
    {
        let Ok(target) = fs::read_link(entry.path()) else {
            continue;
        };
        if target == template {
            let info = open.join("fdinfo").join(entry.file_name());
            let info = fs::read_to_string(&info).map_err(Error::file("read", &info))?;
            modes.extend(
                info.lines()
                    .filter_map(|line| line.strip_prefix("flags:")?.trim().chars().last()),
            );
        }
        if target.starts_with("/memfd:ballast-ram (deleted)") {
            let memfd = fs::File::open(entry.path()).map_err(Error::file("open", &target))?;
            seals.push(rustix::fs::fcntl_get_seals(&memfd).expect("a memfd has seals"));
        }
    }
    // Open for reading only (open(2): O_RDONLY is 0).
    assert_eq!(modes, ['0']);
    seals.sort_by_key(|seals| seals.bits());
    assert_eq!(seals, [SealFlags::SEAL, SealFlags::SHRINK | SealFlags::GROW]);

    qmp.command("quit", Value::Null)?;
    assert!(vm.wait(std::time::Duration::from_secs(10))?.success());
    let left = fs::read(&template).map_err(Error::file("read", &template))?;
    assert!(
        left.iter().all(|byte| *byte == 7),
        "nothing is written to a template"
    );
    Ok(())
}

/// A file with a name: made, filled by the guest's loading, used again by the next guest, emptied at the end where that was
/// allowed.
#[test]
#[ignore = "needs the lab: cargo lab test"]
fn named_files_stay_and_are_emptied_when_allowed() -> Result<()> {
    let directory = tempfile::tempdir_in("/dev/shm").map_err(Error::file("create", Path::new("/dev/shm")))?;
    let path = directory.path().join("ram");
    for discard in ["off", "on"] {
        let object = format!(
            "memory-backend-file,id={ID},size={RAM},mem-path={},share=on,discard-data={discard}",
            path.display()
        );
        let mut vm = Launch::tiny()
            .args(["-S", "-object", &object, "-numa", &format!("node,memdev={ID}")])
            .qmp()
            .start()?;
        let mut qmp = vm.qmp()?;
        assert_eq!(backing::only_mapping(&vm)?.name, path.display().to_string());
        let loaded = maps::file_bytes(vm.pid(), &vm.memory()?)?;
        assert!(loaded > 0);
        qmp.command("quit", Value::Null)?;
        assert!(vm.wait(std::time::Duration::from_secs(10))?.success());
        let left = fs::metadata(&path).map_err(Error::file("find", &path))?;
        let blocks = std::os::unix::fs::MetadataExt::blocks(&left) * 512;
        assert_eq!(left.len(), RAM);
        assert_eq!(
            blocks,
            if discard == "on" { 0 } else { loaded },
            "discard-data={discard}"
        );
    }
    Ok(())
}
