//! Memory that the host cannot supply at run time stops the guest with a message, and nothing is lost.

use std::process::ChildStdin;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::{Value, json};
use tests::harness::Result;
use tests::harness::agent::Agent;
use tests::harness::hugepages::ALL_2M;
use tests::harness::vm::Launch;

/// Guest RAM, in huge pages.
const PAGES: u64 = 96;
/// What the pool has: enough for the kernel, not for what the guest writes then.
const FEW: u64 = 52;
/// What the guest writes, in MiB.
const PATTERN: usize = 110;
const PATIENCE: Duration = Duration::from_secs(30);

fn launch() -> Launch {
    let object = "memory-backend-file,id=mem0,size=192M,mem-path=/dev/hugepages,share=on,reserve=off";
    Launch::tiny()
        .line("-m 192 -machine memory-backend=mem0 -object")
        .arg(object)
}

/// Lets the guest write its pattern while this thread looks on; a guest that is stopped does not answer.
fn fill(mut agent: Agent<ChildStdin>) -> JoinHandle<Result<Agent<ChildStdin>>> {
    thread::spawn(move || agent.fill("pattern", 3, PATTERN).map(|()| agent))
}

#[test]
#[ignore = "needs the lab: cargo lab test"]
fn a_pool_that_runs_dry_stops_the_guest() -> Result<()> {
    let small = ALL_2M.set(FEW)?;
    let mut vm = launch().qmp().start()?;
    let mut qmp = vm.qmp()?;
    let filling = fill(vm.boot()?);

    let event = qmp.wait_event("x-ballast-MEMORY_STARVED", PATIENCE)?;
    let data = &event["data"];
    assert_eq!(data["backend"], "mem0", "{event}");
    assert_eq!(data["page-size"], 2 << 20, "{event}");
    let message = data["message"].as_str().unwrap_or_default();
    let pool = format!("0 free ({FEW} in the pool");
    assert!(message.contains("'mem0'") && message.contains(&pool), "{message}");
    let starved = json!({ "status": "io-error", "running": false, "singlestep": false });
    assert_eq!(qmp.command("query-status", Value::Null)?, starved);
    let said = vm.errors.text();
    assert!(said.contains(message), "{message} is not in {said}");

    // Without more memory it only stops again.
    qmp.command("cont", Value::Null)?;
    qmp.wait_event("x-ballast-MEMORY_STARVED", PATIENCE)?;
    assert_eq!(qmp.command("query-status", Value::Null)?, starved);

    let large = ALL_2M.set(PAGES)?;
    qmp.command("cont", Value::Null)?;
    let mut agent = filling
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
    assert_eq!(qmp.command("query-status", Value::Null)?["status"], "running");
    agent.verify("pattern")?;
    qmp.command("quit", Value::Null)?;
    assert_eq!(vm.wait(PATIENCE)?.code(), Some(0), "{}", vm.errors.text());
    drop(large);
    let pages = ALL_2M.pages()?;
    assert_eq!((pages.total, pages.free), (FEW, FEW));

    a_guest_that_nobody_watches_ends()?;
    drop(small);
    Ok(())
}

/// Nobody could say `cont`: the failure shows in the exit code.
fn a_guest_that_nobody_watches_ends() -> Result<()> {
    let mut vm = launch().start()?;
    let agent = vm.boot()?;
    fill(agent);
    assert_eq!(vm.wait(PATIENCE)?.code(), Some(2), "{}", vm.errors.text());
    let said = vm.errors.text();
    let pool = format!("0 free ({FEW} in the pool");
    assert!(said.contains("'mem0'") && said.contains(&pool), "{said}");
    assert_eq!(ALL_2M.pages()?.free, FEW);
    Ok(())
}
