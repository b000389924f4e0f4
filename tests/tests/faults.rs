//! What a guest does wrong is counted by kind and never fatal.

use std::io::Write;
use std::time::Duration;

use serde_json::{Value, json};
use tests::harness::Result;
use tests::harness::agent::Agent;
use tests::harness::names;
use tests::harness::qmp::Qmp;
use tests::harness::vm::{COMMAND_LINE, Launch, eventually};

const PATIENCE: Duration = Duration::from_secs(30);
/// The balloon's PCI function, as the guest's kernel names it.
const FUNCTION: &str = "0000:00:01.0";
/// A page-aligned MiB of guest RAM that the guest's kernel leaves alone; rings of the test's own lie there.
const OWN: u64 = 0x300_0000;

/// Registers of the common configuration structure (virtio 1.2, §4.1.4.3), from the start of the BAR.
const FEATURE_SELECT: u64 = 0x08;
const FEATURE: u64 = 0x0c;
const STATUS: u64 = 0x14;
const QUEUE_SELECT: u64 = 0x16;
const QUEUE_ENABLE: u64 = 0x1c;
const QUEUE_RINGS: [u64; 3] = [0x20, 0x28, 0x30];
/// The first queue's doorbell.
const NOTIFY: u64 = 0x3000;

/// Writes and reads of the guest's physical memory, done by one program after another in one go.
#[derive(Default)]
struct Pokes(String);

impl Pokes {
    fn write(mut self, address: u64, bits: u8, value: u64) -> Pokes {
        self.0 += &format!("devmem {address:#x} {bits} {value:#x} && ");
        self
    }

    /// Resets the virtio device and brings it to the point where it is told features.
    fn introduce(self, bar: u64) -> Pokes {
        self.write(bar + STATUS, 8, 0)
            .write(bar + STATUS, 8, 1)
            .write(bar + STATUS, 8, 3)
    }

    /// The same, with VERSION_1 (bit 32) and nothing else agreed.
    fn agree(self, bar: u64) -> Pokes {
        let pokes = self.introduce(bar);
        pokes
            .write(bar + FEATURE_SELECT, 32, 1)
            .write(bar + FEATURE, 32, 1)
            .write(bar + STATUS, 8, 0xb)
    }

    /// Sets up the first queue with its three rings at these places, and goes live.
    fn start(mut self, bar: u64, rings: [u64; 3]) -> Pokes {
        self = self.write(bar + QUEUE_SELECT, 16, 0);
        for (register, ring) in QUEUE_RINGS.into_iter().zip(rings) {
            self = self.write(bar + register, 64, ring);
        }
        self.write(bar + QUEUE_ENABLE, 16, 1).write(bar + STATUS, 8, 0xf)
    }

    fn run<W: Write>(self, agent: &mut Agent<W>) -> Result<()> {
        agent.exec(&(self.0 + "true")).map(drop)
    }
}

fn read<W: Write>(agent: &mut Agent<W>, address: u64, bits: u8) -> Result<u64> {
    let text = agent.exec(&format!("devmem {address:#x} {bits}"))?;
    let digits = text.trim().trim_start_matches("0x");
    Ok(u64::from_str_radix(digits, 16).unwrap_or_else(|_| panic!("devmem says {text}")))
}

fn count(qmp: &mut Qmp, kind: &str) -> Result<u64> {
    let counts = qmp.command("x-ballast-query-faults", Value::Null)?;
    let found = counts
        .as_array()
        .and_then(|all| all.iter().find(|one| one["kind"] == kind).cloned());
    Ok(found
        .and_then(|one| one["count"].as_u64())
        .unwrap_or_else(|| panic!("no {kind} in {counts}")))
}

/// Does something, and sees to it that faults of a kind are counted for it.
fn counts<W: Write>(
    agent: &mut Agent<W>,
    qmp: &mut Qmp,
    kind: &str,
    act: impl FnOnce(&mut Agent<W>) -> Result<()>,
) -> Result<()> {
    let before = count(qmp, kind)?;
    act(agent)?;
    assert!(
        eventually(PATIENCE, || Ok(count(qmp, kind)? > before))?,
        "{kind} is still {before}"
    );
    Ok(())
}

#[test]
#[ignore = "needs the lab: cargo lab test"]
fn faults_of_the_guest_are_counted_and_survived() -> Result<()> {
    let mut vm = Launch::new()
        .args(["-kernel", names::TINY_ELF, "-initrd", names::GUEST, "-append"])
        .arg(format!("{COMMAND_LINE} memmap=1M${OWN:#x}"))
        .line("-m 128 -device virtio-balloon-pci")
        .qmp()
        .start()?;
    let mut qmp = vm.qmp()?;
    let mut agent = vm.boot()?;

    counts(&mut agent, &mut qmp, "unknown-port", |agent| {
        // A port that nobody has, read and written.
        agent.exec("dd if=/dev/port bs=1 count=1 skip=4660 of=/dev/null && printf x | dd of=/dev/port bs=1 count=1 seek=4660 conv=notrunc").map(drop)
    })?;
    for address in [0xd000_0000, 0xf000_0000, 0xfed0_0000_u64] {
        counts(&mut agent, &mut qmp, "unknown-mmio", |agent| {
            assert_eq!(read(agent, address, 32)?, 0xffff_ffff);
            Pokes::default()
                .write(address, 8, 1)
                .write(address, 64, 1)
                .run(agent)
        })?;
    }
    // The window of virtio's PCI capability, not set up, lies in the part of configuration space that only root reads.
    counts(&mut agent, &mut qmp, "pci-config", |agent| {
        agent
            .exec(&format!("cat /sys/bus/pci/devices/{FUNCTION}/config > /dev/null"))
            .map(drop)
    })?;
    // Registers that are read-only, and a function that is not there.
    agent.exec(&format!(
        "printf AAAAAAAA | dd of=/sys/bus/pci/devices/{FUNCTION}/config bs=1 seek=40 conv=notrunc"
    ))?;
    assert_eq!(read(&mut agent, 0xe000_0000 + (7 << 15), 32)?, 0xffff_ffff);
    assert_eq!(read(&mut agent, 0xe000_0000 + (200 << 20), 32)?, 0xffff_ffff);

    virtio(&mut agent, &mut qmp)?;

    assert_eq!(qmp.command("query-status", Value::Null)?["status"], "running");
    assert_eq!(
        vm.errors.text().matches("panicked").count(),
        0,
        "{}",
        vm.errors.text()
    );
    qmp.command("quit", Value::Null)?;
    assert_eq!(vm.wait(PATIENCE)?.code(), Some(0), "{}", vm.errors.text());
    Ok(())
}

/// The balloon without its driver, then with it again.
fn virtio<W: Write>(agent: &mut Agent<W>, qmp: &mut Qmp) -> Result<()> {
    let driver = "/sys/bus/pci/drivers/virtio-pci";
    agent.exec(&format!("echo {FUNCTION} > {driver}/unbind"))?;
    let resource = agent.exec(&format!(
        "head -1 /sys/bus/pci/devices/{FUNCTION}/resource; echo 1 > /sys/bus/pci/devices/{FUNCTION}/enable"
    ))?;
    let start = resource
        .split_whitespace()
        .next()
        .unwrap_or_default()
        .trim_start_matches("0x");
    let bar = u64::from_str_radix(start, 16).unwrap_or_else(|_| panic!("no BAR in {resource}"));

    counts(agent, qmp, "virtio-register", |agent| {
        Pokes::default().write(bar + FEATURE_SELECT, 8, 1).run(agent)
    })?;
    counts(agent, qmp, "virtio-register", |agent| {
        Pokes::default().write(bar + 0x7ff0, 32, 1).run(agent)
    })?;
    counts(agent, qmp, "virtio-status", |agent| {
        Pokes::default()
            .write(bar + STATUS, 8, 0)
            .write(bar + STATUS, 8, 0xf)
            .run(agent)
    })?;
    counts(agent, qmp, "virtio-features", |agent| {
        let pokes = Pokes::default().introduce(bar).write(bar + FEATURE_SELECT, 32, 0);
        pokes
            .write(bar + FEATURE, 32, 0xffff_ffff)
            .write(bar + STATUS, 8, 0xb)
            .run(agent)
    })?;
    assert_eq!(read(agent, bar + STATUS, 8)?, 3, "features that were not offered");

    // Rings far outside RAM: the device asks for a reset.
    for ring in [0xffff_ffff_0000_0000, 0x8000_0000, 0x7ff_fff0] {
        counts(agent, qmp, "virtio-queue", |agent| {
            Pokes::default()
                .agree(bar)
                .start(bar, [ring; 3])
                .write(bar + NOTIFY, 16, 0)
                .run(agent)
        })?;
        assert!(eventually(
            PATIENCE,
            || Ok(read(agent, bar + STATUS, 8)? == 0x4f)
        )?);
    }
    // Rings in RAM, and in them whatever is wrong with a chain.
    let [table, available, used, buffer] = [0, 1, 2, 3].map(|page| OWN + page * 0x1000);
    let descriptor = |pokes: Pokes, index: u64, address: u64, rest: u64| {
        pokes
            .write(table + 16 * index, 64, address)
            .write(table + 16 * index + 8, 64, rest)
    };
    let (write_only, next) = (2_u64 << 32, 1_u64 << 32);
    let mut pokes = Pokes::default()
        .write(buffer, 64, 0xffff_fff0_7fff_ffff)
        .write(used, 64, 0);
    pokes = descriptor(pokes, 0, buffer, 8);
    pokes = descriptor(pokes, 1, buffer, 5);
    pokes = descriptor(pokes, 2, buffer, 4 | next | 2 << 48);
    pokes = descriptor(pokes, 3, 0x7fff_ffff_0000, 4);
    pokes = descriptor(pokes, 4, buffer, 4 | write_only);
    pokes = pokes
        .write(available, 64, 5 << 16 | 1 << 48)
        .write(available + 8, 32, 3 << 16 | 2)
        .write(available + 12, 16, 4);
    pokes.run(agent)?;
    let before = ["balloon-outside", "balloon-length", "virtio-chain"].map(|kind| (kind, count(qmp, kind)));
    Pokes::default()
        .agree(bar)
        .start(bar, [table, available, used])
        .write(bar + NOTIFY, 16, 0)
        .run(agent)?;
    assert!(
        eventually(PATIENCE, || Ok(read(agent, used + 2, 16)? == 5))?,
        "not every chain came back"
    );
    for (kind, before) in before {
        assert!(count(qmp, kind)? > before?, "{kind}");
    }
    // A ring that claims more than it has room for.
    counts(agent, qmp, "virtio-queue", |agent| {
        Pokes::default()
            .write(available + 2, 16, 0x9000)
            .write(bar + NOTIFY, 16, 0)
            .run(agent)
    })?;
    Pokes::default().write(bar + STATUS, 8, 0).run(agent)?;
    assert!(eventually(PATIENCE, || Ok(read(agent, bar + STATUS, 8)? == 0))?);

    // The driver comes back, and the balloon is as good as new.
    agent.exec(&format!(
        "echo 0 > /sys/bus/pci/devices/{FUNCTION}/enable; echo {FUNCTION} > {driver}/bind"
    ))?;
    qmp.command("balloon", json!({ "value": 100 << 20 }))?;
    assert!(eventually(PATIENCE, || Ok(qmp
        .command("query-balloon", Value::Null)?["actual"]
        == 100 << 20))?);
    Ok(())
}
