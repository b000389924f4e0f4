//! The pool of huge pages: taken at once with preallocation, promised without, and whole again afterwards, however a guest
//! ends.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tests::harness::backing::HUGE_PAGE;
use tests::harness::group::Group;
use tests::harness::hugepages::{ALL_2M, Pages};
use tests::harness::vm::{Launch, eventually};
use tests::harness::{Error, Result};

/// Pages in the pool: more than the guest wants.
const POOL: u64 = 300;
/// What a guest of 512 MiB takes.
const TAKEN: u64 = 256;
const DIRECTORY: &str = "/dev/hugepages";
/// How the manuals tell users to put a guest on huge pages.
const OBJECT: &str =
    "-object memory-backend-file,id=mem,size=512M,mem-path=/dev/hugepages,share=on -numa node,memdev=mem";
/// How long Ballast may take to end.
const END: Duration = Duration::from_secs(10);

#[test]
#[ignore = "needs the lab: cargo lab test"]
fn preallocation_takes_the_pages_at_once() -> Result<()> {
    let _pool = ALL_2M.set(POOL)?;
    let launch = || {
        Launch::tiny()
            .line(OBJECT)
            .args(["-mem-prealloc", "-m", "512"])
            .qmp()
    };
    takes_all_at_once(launch())?;

    let mut ended = launch().start()?;
    let mut agent = ended.boot()?;
    agent.fill("all", 1, 440)?;
    assert_taken("after the guest wrote all its memory")?;
    agent.verify("all")?;
    agent.power_off()?;
    assert!(ended.wait(END)?.success(), "{}", ended.errors.text());
    assert_untouched("ended")?;

    let mut killed = launch().start()?;
    killed.boot()?;
    assert_taken("while it runs")?;
    killed.kill()?;
    assert_untouched("killed")
}

#[test]
#[ignore = "needs the lab: cargo lab test"]
fn a_path_alone_is_enough() -> Result<()> {
    let _pool = ALL_2M.set(POOL)?;
    let line = format!("-mem-path {DIRECTORY} -mem-prealloc -m 512");
    takes_all_at_once(Launch::tiny().line(&line).qmp())
}

#[test]
#[ignore = "needs the lab: cargo lab test"]
fn without_preallocation_the_pages_are_promised() -> Result<()> {
    let _pool = ALL_2M.set(POOL)?;
    for line in [
        format!("{OBJECT} -m 512"),
        format!("-mem-path {DIRECTORY} -m 512"),
    ] {
        let mut vm = Launch::tiny().line(&line).arg("-S").qmp().start()?;
        vm.qmp()?;
        let pages = ALL_2M.pages()?;
        let (used, reserved) = (POOL - pages.free, pages.reserved.unwrap_or(0));
        // The kernel and its initramfs lie in a few of them.
        assert_eq!(used + reserved, TAKEN, "{line}: {pages:?}");
        assert!(reserved > TAKEN * 9 / 10, "{line}: {pages:?}");
        vm.kill()?;
        assert_untouched("killed")?;
    }
    Ok(())
}

#[test]
#[ignore = "needs the lab: cargo lab test"]
fn a_limit_of_a_control_group_is_named_before_anything_is_taken() -> Result<()> {
    let _pool = ALL_2M.set(POOL)?;
    let group = Group::new("hugetlb")?;
    for (name, limit) in [
        ("hugetlb.2MB.max", TAKEN - 1),
        ("hugetlb.2MB.rsvd.max", TAKEN - 2),
    ] {
        group.limit(name, Some(limit * HUGE_PAGE))?;
        let mut vm = Launch::tiny()
            .line(OBJECT)
            .args(["-m", "512"])
            .under(&group.enter())
            .start()?;
        assert_eq!(vm.wait(END)?.code(), Some(1));
        let said = vm.errors.text();
        let size = 2 * limit;
        let wanted = format!(
            "backend 'mem' needs {TAKEN} pages of 2 MiB (512 MiB): {size} MiB of {size} MiB left by /sys/fs/cgroup/"
        );
        assert!(said.contains(&wanted) && said.contains(name), "{said}");
        assert_untouched("refused")?;
    }
    Ok(())
}

/// Backends that no guest uses hold their pages too, and are told of.
#[test]
#[ignore = "needs the lab: cargo lab test"]
fn objects_hold_pages_until_they_are_deleted() -> Result<()> {
    let _pool = ALL_2M.set(POOL)?;
    let vm = Launch::tiny()
        .arg("-S")
        .args([
            "-object",
            "memory-backend-memfd,id=first,size=64M,hugetlb=on,prealloc=on",
        ])
        .qmp()
        .start()?;
    let mut qmp = vm.qmp()?;
    assert_eq!(ALL_2M.pages()?.free, POOL - 32);
    let add = json!({ "qom-type": "memory-backend-file", "id": "second", "size": 128 << 20, "prealloc": true,
        "mem-path": DIRECTORY, "share": true, "host-nodes": [0, 1], "policy": "interleave" });
    qmp.command("object-add", add)?;
    // The first one may just have said so too.
    let ended = loop {
        let ended = qmp.wait_event("x-ballast-PREALLOC_ENDED", END)?["data"].take();
        if ended["id"] == "second" {
            break ended;
        }
    };
    assert_eq!(ended["state"], "done", "{ended}");
    assert_eq!(ALL_2M.pages()?.free, POOL - 32 - 64);
    let report = qmp.command("x-ballast-query-memory", Value::Null)?;
    let told: Vec<_> = [1, 2]
        .map(|index| &report["backends"][index])
        .into_iter()
        .map(|object| (&object["id"], object["resident"].as_u64(), &object["guest-node"]))
        .collect();
    let expected = [("first", 32), ("second", 64)].map(|(id, pages)| (json!(id), Some(pages * HUGE_PAGE)));
    let expected: Vec<_> = expected
        .iter()
        .map(|(id, bytes)| (id, *bytes, &Value::Null))
        .collect();
    assert_eq!(told, expected, "{report}");
    for id in ["first", "second"] {
        qmp.command("object-del", json!({ "id": id }))?;
    }
    // Unmapped by another thread.
    assert!(
        eventually(END, || Ok(ALL_2M.pages()?.free == POOL))?,
        "{:?}",
        ALL_2M.pages()?
    );
    let again = qmp.command("object-del", json!({ "id": "first" }));
    assert!(
        matches!(&again, Err(Error::Qmp { text, .. }) if text == "object 'first' not found"),
        "{again:?}"
    );
    Ok(())
}

/// A preallocated guest has its pages before it runs, and gives them back when it ends without ever having run.
fn takes_all_at_once(launch: Launch) -> Result<()> {
    assert_untouched("before")?;
    let mut vm = launch.arg("-S").start()?;
    let mut qmp = vm.qmp()?;
    assert_taken("at once")?;
    qmp.command("quit", Value::Null)?;
    assert!(vm.wait(END)?.success(), "{}", vm.errors.text());
    assert_untouched("quit")
}

fn assert_taken(when: &str) -> Result<()> {
    let wanted = Pages {
        total: POOL,
        free: POOL - TAKEN,
        reserved: Some(0),
    };
    assert_eq!(ALL_2M.pages()?, wanted, "{when}");
    Ok(())
}

/// The pool is whole and there is no file.
fn assert_untouched(when: &str) -> Result<()> {
    let wanted = Pages {
        total: POOL,
        free: POOL,
        reserved: Some(0),
    };
    assert_eq!(ALL_2M.pages()?, wanted, "{when}");
    let path = Path::new(DIRECTORY);
    let entries = fs::read_dir(path).map_err(Error::file("list", path))?;
    let names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
    assert!(names.is_empty(), "{when}: {names:?}");
    Ok(())
}
