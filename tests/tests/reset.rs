//! A machine that is reset comes back whole: guests start again, memory holds what is written, nothing is left over.

use std::fs;
use std::path::PathBuf;
use std::process::ChildStdin;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use tests::harness::agent::{Agent, BOOT};
use tests::harness::backing::HUGE_PAGE;
use tests::harness::hugepages::ALL_2M;
use tests::harness::maps;
use tests::harness::qmp::Qmp;
use tests::harness::vm::{Launch, eventually};
use tests::harness::{Error, Result, Vm, balloon, names};

const MEBIBYTE: u64 = 1 << 20;
/// The guest's RAM in MiB, half of it in huge pages.
const RAM: u64 = 192;
/// What the guest writes while the balloon has the rest, in MiB.
const KEPT: usize = 24;
const PATIENCE: Duration = Duration::from_secs(60);
/// Where the guest's drivers of the balloon can be told to let go.
const DRIVER: &str = "/sys/bus/virtio/drivers/virtio_balloon";

/// How much a guest can do without.
#[derive(Clone, Copy, Debug)]
struct Room {
    /// What the balloon is to leave, in MiB.
    left: u64,
    /// What the guest writes without the balloon, in MiB.
    pattern: usize,
}

const TINY: Room = Room {
    left: 96,
    pattern: 96,
};
/// A distribution's kernel has most of 64 MiB for itself.
const STOCK: Room = Room {
    left: 136,
    pattern: 48,
};

/// Who resets the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// The guest, as its kernel's command line says: by a triple fault.
    Guest,
    /// The guest, by writing a byte to a port.
    Port(u16, u8),
    /// A user.
    User,
}

/// Of a guest with two processors, whose RAM is half anonymous and half huge pages, with a balloon and a QMP socket.
fn launch(kernel: &str) -> Launch {
    Launch::kernel(kernel)
        .line("-smp 2 -object memory-backend-ram,id=m0,size=96M -numa node,cpus=0,memdev=m0")
        .line("-object memory-backend-memfd,id=m1,size=96M,hugetlb=on -numa node,cpus=1,memdev=m1")
        .args(["-m", &RAM.to_string()])
        .args(balloon::DEVICE)
        .reboots()
        .qmp()
}

/// Has the balloon begin to move.
fn begin_inflate(qmp: &mut Qmp, room: Room) -> Result<()> {
    balloon::ask(qmp, room.left * MEBIBYTE)?;
    let begun = || Ok(balloon::actual(qmp)? < RAM * MEBIBYTE);
    assert!(eventually(PATIENCE, begun)?, "the balloon does not move");
    Ok(())
}

/// Resets the machine and waits for the next guest.
fn reset(way: Way, mut agent: Agent<ChildStdin>, qmp: &mut Qmp) -> Result<Agent<ChildStdin>> {
    qmp.take_events();
    let (guest, reason) = match way {
        Way::Guest => {
            agent.reboot()?;
            (true, "guest-reset")
        }
        Way::Port(port, byte) => {
            let write = format!("printf '\\{byte:03o}' | dd of=/dev/port bs=1 seek={port} 2>/dev/null");
            agent.console.send(&format!("1 exec {write}"))?;
            (true, "guest-reset")
        }
        Way::User => {
            qmp.command("system_reset", Value::Null)?;
            (false, "host-qmp-system-reset")
        }
    };
    let event = qmp.wait_event("RESET", PATIENCE)?;
    assert_eq!(
        event["data"],
        json!({ "guest": guest, "reason": reason }),
        "{way:?}"
    );
    Agent::wait(agent.console, BOOT)
}

#[test]
#[ignore = "needs the lab: cargo lab test"]
fn memory_survives_resets_amid_an_inflate() -> Result<()> {
    let _pool = ALL_2M.set(RAM / 2 * MEBIBYTE / HUGE_PAGE)?;
    let launch = launch(names::TINY_ELF).line("-device pvpanic-pci -action panic=pause -nographic");
    let mut vm = launch.start()?;
    let mut agent = vm.boot()?;
    let mut qmp = vm.qmp()?;
    agent.fill("old", 1, TINY.pattern)?;
    let before = anonymous(&vm)?;
    agent.free("old")?;
    for way in [Way::Guest, Way::User] {
        begin_inflate(&mut qmp, TINY)?;
        agent = reset(way, agent, &mut qmp).map_err(|error| vm.explain(error))?;
        let after = anonymous(&vm)?;
        assert!(after < before, "{way:?}: {after} of {before} are held still");
        assert_eq!(agent.exec("grep -c ^processor /proc/cpuinfo")?.trim(), "2");
        // The target was kept, and the new driver follows it.
        agent.fill("kept", 2, KEPT)?;
        balloon::wait(&mut qmp, TINY.left * MEBIBYTE, PATIENCE)?;
        all_is_writable(&mut agent, &mut qmp, TINY)?;
    }

    // A driver that goes amid an inflate, and comes back.
    let device = agent.exec(&format!("cd {DRIVER}; echo virtio*"))?;
    let device = device.trim();
    begin_inflate(&mut qmp, TINY)?;
    agent.exec(&format!("echo {device} > {DRIVER}/unbind"))?;
    balloon::wait(&mut qmp, RAM * MEBIBYTE, PATIENCE)?;
    agent.fill("more", 5, TINY.pattern)?;
    agent.verify("more")?;
    agent.free("more")?;
    agent.exec(&format!("echo {device} > {DRIVER}/bind"))?;
    balloon::wait(&mut qmp, TINY.left * MEBIBYTE, PATIENCE)?;
    all_is_writable(&mut agent, &mut qmp, TINY)?;
    let faults = qmp.command("x-ballast-query-faults", Value::Null)?;
    for fault in faults.as_array().into_iter().flatten() {
        let driver = [
            "virtio-chain",
            "virtio-queue",
            "balloon-outside",
            "balloon-length",
        ];
        let known = driver.iter().any(|kind| fault["kind"] == *kind);
        assert!(!known || fault["count"] == 0, "{faults}");
    }

    // What is stopped stays stopped, and starts from the beginning.
    qmp.command("stop", Value::Null)?;
    qmp.command("system_reset", Value::Null)?;
    qmp.wait_event("RESET", PATIENCE)?;
    assert_eq!(qmp.command("query-status", Value::Null)?["status"], "paused");
    qmp.command("cont", Value::Null)?;
    let mut agent = Agent::wait(agent.console, BOOT).map_err(|error| vm.explain(error))?;
    a_panic_stops_the_guest(&mut agent, &mut qmp)?;
    the_monitor_shares_the_terminal(&mut agent)?;
    two_signals_end_it(&mut vm, &mut agent, &mut qmp)
}

/// As told by the device's register: this kernel has no driver for it.
fn a_panic_stops_the_guest(agent: &mut Agent<ChildStdin>, qmp: &mut Qmp) -> Result<()> {
    qmp.take_events();
    let function = "/sys/bus/pci/devices/0000:00:02.0";
    agent.exec(&format!("echo 1 > {function}/enable"))?;
    let bar = agent.exec(&format!("head -n 1 {function}/resource"))?;
    let bar = bar.split_whitespace().next().unwrap_or_default();
    assert_eq!(agent.exec(&format!("devmem {bar} 8"))?.trim(), "0x03");
    // Of a guest that stops at once there is no answer; it comes when it goes on.
    agent
        .console
        .send(&format!("7000 exec devmem {bar} 8 2; devmem {bar} 8 1"))?;
    let loaded = qmp.wait_event("GUEST_CRASHLOADED", PATIENCE)?;
    assert_eq!(loaded["data"]["action"], "run");
    let panicked = qmp.wait_event("GUEST_PANICKED", PATIENCE)?;
    assert_eq!(panicked["data"]["action"], "pause");
    qmp.wait_event("STOP", PATIENCE)?;
    assert_eq!(
        qmp.command("query-status", Value::Null)?["status"],
        "guest-panicked"
    );
    qmp.command("cont", Value::Null)?;
    agent.console.wait_for("agent 7000= 0", PATIENCE)
}

/// The line that was typed is shown, the answer comes, and then the guest is typed to again.
fn the_monitor_shares_the_terminal(agent: &mut Agent<ChildStdin>) -> Result<()> {
    agent.console.send("\u{1}c")?;
    agent.console.wait_for("(ballast) ", PATIENCE)?;
    agent.console.send("info statux\u{7f}s")?;
    agent.console.wait_for("VM status: running", PATIENCE)?;
    agent.console.send("\u{1}h\u{1}c")?;
    agent.console.wait_for("switch between", PATIENCE)?;
    agent.exec("true").map(drop)
}

/// A guest in which nobody listens to the power button goes on after the first one.
fn two_signals_end_it(vm: &mut Vm, agent: &mut Agent<ChildStdin>, qmp: &mut Qmp) -> Result<()> {
    agent.exec("killall acpid")?;
    vm.signal(Signal::TERM)?;
    qmp.wait_event("POWERDOWN", PATIENCE)?;
    agent.exec("true")?;
    vm.signal(Signal::TERM)?;
    let event = qmp.wait_event("SHUTDOWN", PATIENCE)?;
    assert_eq!(event["data"], json!({ "guest": false, "reason": "host-signal" }));
    assert_eq!(vm.wait(PATIENCE)?.code(), Some(0), "{}", vm.errors.text());
    let said = vm.errors.text();
    assert!(
        said.contains("SIGTERM: the guest is asked to power down"),
        "{said}"
    );
    Ok(())
}

/// With the balloon at its target: empties it, writes to what came, fills it again; what was kept is still there.
fn all_is_writable(agent: &mut Agent<ChildStdin>, qmp: &mut Qmp, room: Room) -> Result<()> {
    balloon::ask(qmp, RAM * MEBIBYTE)?;
    balloon::wait(qmp, RAM * MEBIBYTE, PATIENCE)?;
    agent.fill("more", 3, room.pattern)?;
    agent.verify("more")?;
    agent.free("more")?;
    balloon::ask(qmp, room.left * MEBIBYTE)?;
    balloon::wait(qmp, room.left * MEBIBYTE, PATIENCE)?;
    agent.verify("kept")?;
    balloon::ask(qmp, RAM * MEBIBYTE)?;
    balloon::wait(qmp, RAM * MEBIBYTE, PATIENCE).map(drop)
}

/// Bytes that the host holds of guest RAM that is no file.
fn anonymous(vm: &Vm) -> Result<u64> {
    let memory = vm.memory()?;
    let private = memory.iter().filter(|mapping| !mapping.shared);
    Ok(private.map(maps::Mapping::resident).sum())
}

#[test]
#[ignore = "needs the lab: cargo lab test --long"]
fn long_a_hundred_resets_leave_nothing_behind() -> Result<()> {
    let _pool = ALL_2M.set(RAM / 2 * MEBIBYTE / HUGE_PAGE)?;
    for (kernel, room) in [(names::TINY_ELF, TINY), (names::STOCK, STOCK)] {
        let mut vm = launch(kernel).start()?;
        let mut agent = vm.boot()?;
        let mut qmp = vm.qmp()?;
        let ways = [
            Way::Guest,
            Way::User,
            // The keyboard controller's command, and ACPI's reset register.
            Way::Port(0x64, 0xfe),
            Way::Port(0x602, 1),
        ];
        // A distribution's kernel has no /dev/port.
        let (ways, rounds) = match kernel == names::STOCK {
            true => (&ways[..2], 8),
            false => (&ways[..], 100),
        };
        // What is made once is there after the first ones.
        let mut before = None;
        for (round, &way) in ways.iter().cycle().take(rounds).enumerate() {
            begin_inflate(&mut qmp, room)?;
            agent = reset(way, agent, &mut qmp).map_err(|error| vm.explain(error))?;
            if round % 10 == 0 {
                agent.fill("kept", 2, KEPT)?;
                balloon::wait(&mut qmp, room.left * MEBIBYTE, PATIENCE)?;
                all_is_writable(&mut agent, &mut qmp, room)?;
            } else {
                balloon::ask(&mut qmp, RAM * MEBIBYTE)?;
                balloon::wait(&mut qmp, RAM * MEBIBYTE, PATIENCE)?;
            }
            let now = Footprint::of(&vm)?;
            println!("{round}: {way:?}: {now:?}");
            let first = before.get_or_insert_with(|| now.clone());
            assert_eq!(
                (now.descriptors, now.threads),
                (first.descriptors, first.threads),
                "{}",
                vm.errors.text()
            );
            assert!(
                now.own <= first.own + MEBIBYTE / 2,
                "{first:?} has grown to {now:?}"
            );
            if round == 3 {
                before = Some(now);
            }
        }
    }
    Ok(())
}

/// What Ballast has of the host besides guest memory.
#[derive(Clone, Debug)]
struct Footprint {
    descriptors: usize,
    threads: usize,
    /// Bytes of anonymous memory.
    own: u64,
}

impl Footprint {
    fn of(vm: &Vm) -> Result<Footprint> {
        let count = |name: &str| {
            let path = PathBuf::from(format!("/proc/{}/{name}", vm.pid()));
            let entries = fs::read_dir(&path).map_err(Error::file("read", &path))?;
            Ok(entries.count())
        };
        let guest = vm.memory()?;
        let all = maps::smaps(vm.pid())?;
        let own = all
            .iter()
            .filter(|mapping| guest.iter().all(|ram| ram.start != mapping.start));
        Ok(Footprint {
            descriptors: count("fd")?,
            threads: count("task")?,
            own: own.map(|mapping| mapping.field("Anonymous")).sum(),
        })
    }
}
