//! A machine that is stopped and goes on, again and again, while its guest is at work.

use std::io::Write;
use std::thread;
use std::time::Duration;

use serde_json::Value;
use tests::agent::disk::Series;
use tests::harness::Result;
use tests::harness::agent::Agent;
use tests::harness::qmp::Qmp;
use tests::harness::vm::Vm;

use super::until;

/// How often.
const STOPS: u32 = 20;
/// How long the guest runs in between, at least, and how long it stands still.
const RUN: Duration = Duration::from_millis(60);
const REST: Duration = Duration::from_millis(30);

/// One process writes to memory and one to a disk, and both read what they wrote. Nothing is lost, and the guest's kernel has
/// nothing to say.
pub(super) fn under_load<W: Write>(vm: &Vm, agent: &mut Agent<W>) -> Result<()> {
    agent.exec("dmesg > /tmp/log; test -s /tmp/log")?;
    let sum = "yes $n | head -c 1048576 | tee /tmp/copy | md5sum";
    let check = format!("[ \"$({sum})\" = \"$(md5sum < /tmp/copy)\" ] || echo $n >> /tmp/damaged");
    let work = format!(
        "n=0; while [ -e /tmp/work ]; do n=$((n+1)); {check}; done; echo $n > /tmp/done; rm /tmp/copy"
    );
    agent.exec(&format!("touch /tmp/work; ({work}) >/dev/null 2>&1 &"))?;

    let mut qmp = vm.qmp()?;
    let stops = thread::spawn(move || stop_again_and_again(&mut qmp));
    let mut rounds = 0;
    while rounds == 0 || !stops.is_finished() {
        rounds += 1;
        let series = Series {
            seed: rounds,
            block: 4096,
            count: 256,
            every: 32,
        };
        let id = agent.write_disk("/dev/vda", series)?;
        agent.disk_written(id)?;
        agent.verify_disk("/dev/vda", series)?;
    }
    stops
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;

    agent.exec("rm /tmp/work")?;
    until("the end of the work", || {
        Ok(agent.exec("ls /tmp/done 2>/dev/null; true")?.contains("done"))
    })?;
    let copies = agent.exec("cat /tmp/done; cat /tmp/damaged 2>/dev/null; true")?;
    println!("{rounds} rounds with the disk, {} with memory", copies.trim());
    assert!(
        copies.trim().parse::<u32>().is_ok_and(|count| count > 1),
        "what was damaged: {copies}"
    );
    let log = agent.exec("dmesg | diff /tmp/log -; true")?;
    assert_eq!(log, "", "the guest's kernel has something to say");
    Ok(())
}

fn stop_again_and_again(qmp: &mut Qmp) -> Result<()> {
    for _ in 0..STOPS {
        thread::sleep(RUN);
        qmp.command("stop", Value::Null)?;
        assert_eq!(qmp.command("query-status", Value::Null)?["status"], "paused");
        thread::sleep(REST);
        qmp.command("cont", Value::Null)?;
        assert_eq!(qmp.command("query-status", Value::Null)?["status"], "running");
    }
    Ok(())
}
