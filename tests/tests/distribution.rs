//! A whole Debian from its disk: it boots, lets people in, has a balloon that works, and ends in peace.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use tests::harness::qmp::Qmp;
use tests::harness::shell::Shell;
use tests::harness::vm::{Launch, Vm, eventually};
use tests::harness::{Error, Result, balloon, names};

/// How long it may take to boot or to end: an emulator in an emulator starts dozens of services, and not alone.
const BOOT: Duration = Duration::from_secs(900);
/// How long a command may take.
const ANSWER: Duration = Duration::from_secs(180);
/// Its RAM, what the balloon is to leave, and what is written before, in MiB.
const RAM: u64 = 1024;
const LEFT: u64 = 512;
const WRITTEN: u64 = 640;
const MEBIBYTE: u64 = 1 << 20;
/// The balloon, which alone is to give memory back.
const DEVICE: &str = "virtio-balloon-pci,id=balloon0,free-page-reporting=off";
const BALLOON: &str = "/machine/peripheral/balloon0";
/// Makes the interface for its network card, in a network namespace of its own.
const NETWORK: &str =
    "set -e; tunctl -t tap0 >/dev/null; ip addr add 10.7.0.1/24 dev tap0; ip link set tap0 up; exec \"$@\"";

#[test]
#[ignore = "needs the lab: cargo lab test"]
fn long_a_debian_is_used_from_its_disk() -> Result<()> {
    let drive = format!("file={},format=qcow2,if=virtio", names::DISTRIBUTION);
    let mut vm = Launch::new()
        .under(&["unshare", "-n", "sh", "-c", NETWORK, "sh"])
        .line("-m 1G -smp 2 -device virtio-rng-pci")
        .line("-netdev tap,id=lan,ifname=tap0,script=no -device virtio-net-pci,netdev=lan")
        .args(["-device", DEVICE])
        .args(["-drive", &drive, "-kernel", names::DISTRIBUTION_KERNEL])
        .args(["-initrd", names::DISTRIBUTION_INITRD])
        .args(["-append", "console=ttyS0 root=/dev/vda1"])
        .qmp()
        .start()?;
    used(&mut vm).map_err(|error| vm.explain(error))?;
    assert_eq!(vm.wait(BOOT)?.code(), Some(0), "{}", vm.errors.text());
    assert!(!vm.errors.text().contains("error"), "{}", vm.errors.text());

    // Nothing of the disk was left behind in memory: the image is whole, and says what was written last.
    let check = run(&["qemu-img", "check", "-f", "qcow2", names::DISTRIBUTION])?;
    assert!(check.contains("No errors were found"), "{check}");
    Ok(())
}

/// Everything that is done with it until it ends.
fn used(vm: &mut Vm) -> Result<()> {
    let mut shell = Shell::login(vm.console()?, BOOT, "root", "ballast")?;
    println!("logged in after {:?}", vm.started().elapsed());
    let state = shell.exec("systemctl is-system-running --wait || systemctl --failed", BOOT)?;
    assert_eq!(state.trim(), "running");
    println!("running after {:?}", vm.started().elapsed());
    let kernel = shell.exec("uname -r; nproc", ANSWER)?;
    println!("{kernel}");
    assert!(
        kernel.starts_with("6.1.") && kernel.contains("-cloud-"),
        "{kernel}"
    );
    assert_eq!(kernel.lines().last(), Some("2"), "{kernel}");

    let mut qmp = vm.qmp()?;
    let interval = json!({ "path": BALLOON, "property": "guest-stats-polling-interval", "value": 2 });
    qmp.command("qom-set", interval)?;
    // Memory that was in use once is what the host can get back.
    let write = format!(
        "mount -o remount,size=90% /dev/shm; head -c {WRITTEN}M /dev/zero >/dev/shm/zeros; rm /dev/shm/zeros"
    );
    shell.exec(&write, ANSWER)?;
    let before = vm.resident()?;
    balloon::ask(&mut qmp, LEFT * MEBIBYTE)?;
    balloon::wait(&mut qmp, LEFT * MEBIBYTE, ANSWER)?;
    let after = vm.resident()?;
    println!("freed {} MiB", before.saturating_sub(after) / MEBIBYTE);
    assert!(
        before > WRITTEN * MEBIBYTE && after <= LEFT * MEBIBYTE,
        "{before} bytes, then {after}"
    );

    // The guest's own figures come, and are those of a guest with a balloon in it.
    let told = eventually(ANSWER, || Ok(total(&mut qmp)? <= LEFT * MEBIBYTE))?;
    assert!(told, "{} bytes in the guest, it says", total(&mut qmp)?);
    balloon::ask(&mut qmp, RAM * MEBIBYTE)?;
    balloon::wait(&mut qmp, RAM * MEBIBYTE, ANSWER)?;

    // The other way in, from which a file comes to the disk.
    let pid = vm.pid().to_string();
    let mut words = vec!["nsenter", "-t", &pid, "-n", "ssh", "-i", names::DISTRIBUTION_KEY];
    for option in [
        "BatchMode=yes",
        "StrictHostKeyChecking=no",
        "UserKnownHostsFile=/dev/null",
        "ConnectTimeout=120",
    ] {
        words.extend(["-o", option]);
    }
    words.extend(["root@10.7.0.2", "hostname; echo by network >/root/note; sync"]);
    let said = run(&words)?;
    assert!(said.starts_with("debian\n"), "{said}");
    assert_eq!(shell.exec("cat /root/note", ANSWER)?, "by network\n");
    let failed = shell.exec("systemctl --failed --no-legend --plain", ANSWER)?;
    assert_eq!(failed.trim(), "");

    qmp.command("system_powerdown", Value::Null)?;
    let event = qmp.wait_event("SHUTDOWN", BOOT)?;
    assert_eq!(event["data"]["reason"], "guest-shutdown", "{event}");
    Ok(())
}

/// The memory that the guest last said it has, in bytes; everything if it has said nothing.
fn total(qmp: &mut Qmp) -> Result<u64> {
    let stats = qmp.command("qom-get", json!({ "path": BALLOON, "property": "guest-stats" }))?;
    Ok(stats["stats"]["stat-total-memory"].as_u64().unwrap_or(u64::MAX))
}

/// Runs a program to its end and returns what it says.
fn run(words: &[&str]) -> Result<String> {
    let output = Command::new(words[0])
        .args(&words[1..])
        .output()
        .map_err(Error::file("run", Path::new(words[0])))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{words:?}: {}\n{said}{errors}",
        output.status
    );
    Ok(said)
}
