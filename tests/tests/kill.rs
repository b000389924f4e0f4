//! SIGKILL at any moment leaves nothing: no file, no huge page in use, nothing that blocks the next start.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tests::harness::hugepages::{ALL_2M, Pages};
use tests::harness::qmp::Qmp;
use tests::harness::vm::{Launch, Vm, eventually};
use tests::harness::{Error, Result};

/// Guest RAM: all of the pool, so that one page that is lost stops the next start.
const PAGES: u64 = 64;
const HUGE: &str = "/dev/hugepages";
const PATIENCE: Duration = Duration::from_secs(60);

/// The stages at which a start can be frozen, in their order.
const STAGES: [&str; 10] = [
    "sockets",
    "mapped",
    "hinted",
    "bound",
    "slots",
    "prealloc-half",
    "preallocated",
    "loaded",
    "booting",
    "inflate-half",
];

fn launch(socket: &Path) -> Launch {
    Launch::tiny()
        .line("-m 128 -smp 2 -numa node,memdev=mem -device virtio-balloon-pci")
        .arg("-object")
        .arg(format!(
            "memory-backend-file,id=mem,size=128M,mem-path={HUGE},share=on,prealloc=on"
        ))
        .arg("-qmp")
        .arg(format!("unix:{},server=on,wait=off", socket.display()))
}

/// Starts with a stage to freeze at, brings the guest there, and returns when it is frozen.
fn frozen_at(stage: &str, socket: &Path) -> Result<Vm> {
    let mut vm = launch(socket).env("BALLAST_FREEZE_AT", stage).start()?;
    if stage == "inflate-half" {
        vm.boot()?;
        Qmp::connect(socket)?.command("balloon", json!({ "value": 64 << 20 }))?;
    }
    vm.errors.wait_for(&format!("frozen at {stage}"), 0, PATIENCE)?;
    assert!(
        eventually(PATIENCE, || is_stopped(vm.pid()))?,
        "{stage}: it did not stop itself"
    );
    Ok(vm)
}

fn is_stopped(pid: u32) -> Result<bool> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).map_err(Error::file("read", Path::new(&path)))?;
    Ok(text
        .rsplit(')')
        .next()
        .is_some_and(|rest| rest.trim_start().starts_with('T')))
}

fn files(directory: &str) -> Result<Vec<String>> {
    let entries = fs::read_dir(directory).map_err(Error::file("list", Path::new(directory)))?;
    Ok(entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect())
}

#[test]
#[ignore = "needs the lab: cargo lab test"]
fn sigkill_leaves_nothing_at_any_stage() -> Result<()> {
    let _pool = ALL_2M.set(PAGES)?;
    let untouched = Pages {
        total: PAGES,
        free: PAGES,
        reserved: Some(0),
    };
    let directory = tempfile::tempdir().map_err(Error::file("create", Path::new("/tmp")))?;
    // The same socket for all: each start finds what the one before it left.
    let socket = directory.path().join("qmp");
    for stage in STAGES {
        let mut vm = frozen_at(stage, &socket)?;
        let used = PAGES - ALL_2M.pages()?.free;
        match stage {
            "prealloc-half" => assert!(
                (PAGES / 4..PAGES).contains(&used),
                "{stage}: {used} pages are in use"
            ),
            "preallocated" | "loaded" | "booting" => assert_eq!(used, PAGES, "{stage}"),
            _ => {}
        }
        assert_eq!(
            files(HUGE)?,
            Vec::<String>::new(),
            "{stage}: a file while it runs"
        );
        vm.kill()?;
        assert!(
            eventually(Duration::from_secs(2), || Ok(ALL_2M.pages()? == untouched))?,
            "{stage}: {:?}",
            ALL_2M.pages()?
        );
        assert_eq!(files(HUGE)?, Vec::<String>::new(), "{stage}: a file afterwards");
        assert_eq!(
            vm.errors.text().matches("panicked").count(),
            0,
            "{}",
            vm.errors.text()
        );
    }

    // Killed while everything runs, and then a start that comes to its regular end.
    let mut vm = launch(&socket).start()?;
    vm.boot()?;
    vm.kill()?;
    assert!(eventually(Duration::from_secs(2), || Ok(
        ALL_2M.pages()? == untouched
    ))?);
    let mut vm = launch(&socket).start()?;
    let mut agent = vm.boot()?;
    agent.exec("true")?;
    Qmp::connect(&socket)?.command("quit", Value::Null)?;
    assert_eq!(vm.wait(PATIENCE)?.code(), Some(0), "{}", vm.errors.text());
    assert_eq!(ALL_2M.pages()?, untouched);
    assert!(!socket.exists());
    Ok(())
}
