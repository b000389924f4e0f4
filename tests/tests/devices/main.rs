//! Devices besides the balloon, as a stock kernel's drivers use them.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::harness::agent::Agent;
use tests::harness::qmp::Qmp;
use tests::harness::vm::Launch;
use tests::harness::{Error, Result};

use daemons::Daemon;
use reflector::Reflector;

mod daemons;
mod disks;
mod reflector;
mod stopped;

const MIB: u64 = 1 << 20;
/// How long the guest may take for all that it writes.
const PATIENCE: Duration = Duration::from_secs(120);

/// One guest for everything that is short.
#[test]
#[ignore = "needs the lab: cargo lab test"]
fn devices_serve_a_stock_kernel() -> Result<()> {
    let directory = tempfile::tempdir().expect("a directory");
    let image = |name: &str, size: usize| {
        let path = directory.path().join(name);
        fs::write(&path, vec![0xaa; size]).expect("an image");
        path
    };
    let (first, fixed, cut) = (
        image("first", 16 << 20),
        image("fixed", 1 << 20),
        image("cut", 1 << 20),
    );
    let upper = disks::layers(directory.path())?;
    let mut daemon = Daemon::start(directory.path())?;
    let switch = directory.path().join("switch");
    let neighbour = Reflector::start(&switch)?;
    // Its TSC is that of an emulated lab host, which jumps when a vCPU comes back.
    let launch = Launch::stock()
        .append("tsc=nowatchdog")
        .line("-m 256 -smp 2 -device virtio-rng-pci -device virtio-rng-pci,rng=zeros,id=r1")
        .line("-object rng-random,id=zeros,filename=/dev/zero")
        .args([
            "-drive",
            &format!("file={},format=raw,id=d,if=none", first.display()),
        ])
        .line("-device virtio-blk-pci,drive=d,serial=SN-1,num-queues=2")
        .line("-object memory-backend-memfd,id=m,size=256M -machine memory-backend=m -device virtio-balloon-pci")
        .args([
            "-chardev",
            &format!("socket,id=c,path={},reconnect=1", daemon.socket.display()),
        ])
        .line("-device vhost-user-blk-pci,chardev=c")
        .args([
            "-chardev",
            &format!("socket,id=s,path={},reconnect=1", switch.display()),
        ])
        .line("-netdev vhost-user,id=n,chardev=s -device virtio-net-pci,netdev=n")
        .args([
            "-drive",
            &format!("file={},format=raw,readonly=on", fixed.display()),
        ])
        .args(["-drive", &format!("file={},format=raw", cut.display())])
        .args(["-drive", &format!("file={},format=qcow2,id=q", upper.display())])
        .qmp();
    let mut vm = launch.start()?;
    let mut agent = vm.boot()?;
    let mut qmp = vm.qmp()?;
    let devices = agent.exec("lspci -nn")?;
    assert_eq!(devices.matches("[1af4:1044]").count(), 2, "{devices}");
    assert_eq!(devices.matches("[1af4:1042]").count(), 5, "{devices}");

    random_bytes(&mut agent)?;
    let link = qmp.command("qom-get", json!({ "path": "r1", "property": "rng" }))?;
    assert_eq!(link, json!("/objects/zeros"));

    let facts =
        agent.exec("cd /sys/block; cat vda/serial; echo; cat vda/size vda/ro vdc/ro; ls vda/mq | wc -l")?;
    let facts: Vec<&str> = facts.split_whitespace().collect();
    assert_eq!(facts, ["SN-1", "32768", "0", "1", "2"]);
    writes(&mut agent, &mut qmp, &first, 64 << 10, 64)?;
    discards(&mut agent, &first)?;
    stopped::under_load(&vm, &mut agent)?;

    let before = fs::read(&fixed).expect("the image");
    let refused =
        agent.exec("dd if=/dev/zero of=/dev/vdc bs=4k count=1 oflag=direct 2>&1; echo status $?")?;
    assert!(!refused.contains("status 0"), "{refused}");
    assert!(
        fs::read(&fixed).expect("the image") == before,
        "a disk that is read-only was written"
    );

    disks::written_in_layers(&mut agent, &mut qmp)?;
    daemons::served(&mut agent, &mut qmp, "/dev/vdb", &mut daemon)?;
    daemons::connected(&mut agent, &mut qmp, &switch, neighbour)?;
    daemons::refused(directory.path())?;

    // Somebody takes the disk away: an error for the guest, and for nobody else.
    File::options()
        .write(true)
        .open(&cut)
        .and_then(|file| file.set_len(0))
        .expect("cut the image");
    let read = agent.exec("dd if=/dev/vdd of=/dev/null bs=4k count=1 iflag=direct 2>&1; echo status $?")?;
    assert!(read.contains("error") && !read.contains("status 0"), "{read}");
    assert!(of_disk(&stats(&mut qmp)?, "virtio1", "x-ballast-failed-operations") > 0);

    let mut second = Launch::stock()
        .args(["-drive", &format!("file={},format=raw", first.display())])
        .start()?;
    assert_eq!(second.wait(PATIENCE)?.code(), Some(1));
    assert!(
        second.errors.text().contains("another program writes to it"),
        "{}",
        second.errors.text()
    );
    agent.power_off()?;
    vm.wait(PATIENCE)?;
    disks::sound(&upper)
}

fn random_bytes<W: Write>(agent: &mut Agent<W>) -> Result<()> {
    let directory = "/sys/devices/virtual/misc/hw_random";
    let sources = agent.exec(&format!("cat {directory}/rng_available"))?;
    assert_eq!(sources.matches("virtio_rng.").count(), 2, "{sources}");
    for (source, is_zero) in [(0, false), (1, true)] {
        agent.exec(&format!("echo virtio_rng.{source} > {directory}/rng_current"))?;
        // The first bytes may be left from the source before.
        let read = "dd if=/dev/hwrng bs=64 count=32 2>/dev/null | tail -c 1024";
        let bytes = agent.exec(&format!("{read} | tr -d '\\000' | wc -c"))?;
        let others: u32 = bytes.trim().parse().unwrap_or_else(|_| panic!("{bytes}"));
        // Of 1024 random bytes 4 are 0.
        let fits = if is_zero { others == 0 } else { others > 900 };
        assert!(fits, "{others} bytes that are not 0 from source {source}");
    }
    Ok(())
}

/// The guest writes `count` pieces of `size` bytes in random order, each with its number, and is stopped amid them. The image has
/// them, and the guest reads them.
fn writes<W: Write>(
    agent: &mut Agent<W>,
    qmp: &mut Qmp,
    image: &Path,
    size: usize,
    count: usize,
) -> Result<()> {
    let write = format!(
        "yes piece $i | head -c {size} | dd of=/dev/vda bs={size} seek=$i oflag=direct iflag=fullblock conv=notrunc 2>>/tmp/errors"
    );
    let all = format!(
        "for i in $(seq 0 {} | shuf); do {write} || exit 1; done; touch /tmp/written",
        count - 1
    );
    agent.exec(&format!("({all}) >/dev/null 2>&1 &"))?;
    let written = |qmp: &mut Qmp| stats(qmp).map(|stats| of_disk(&stats, "d", "wr_bytes"));
    let some = (size * count / 8) as u64;
    until("the first pieces", || Ok(written(qmp)? >= some))?;
    qmp.command("stop", Value::Null)?;
    // What was under way is finished, and no more comes.
    let mut last = 0;
    until("a quiet disk", || {
        std::thread::sleep(Duration::from_millis(200));
        let now = written(qmp)?;
        Ok(std::mem::replace(&mut last, now) == now)
    })?;
    assert!(
        last < (size * count) as u64,
        "the guest was done too soon to be stopped"
    );
    qmp.command("cont", Value::Null)?;
    until("all pieces", || {
        let state = agent.exec("ls /tmp/written 2>/dev/null; true")?;
        Ok(state.contains("written"))
    })?;
    // What is written past the page cache is flushed by fsync(2) on the disk only.
    agent.exec("dd if=/dev/vda of=/dev/vda bs=512 count=1 conv=notrunc,fsync")?;
    assert!(of_disk(&stats(qmp)?, "d", "flush_operations") > 0);

    let file = File::open(image).map_err(Error::file("open", image))?;
    let mut bytes = vec![0; size];
    for piece in 0..count {
        file.read_exact_at(&mut bytes, (piece * size) as u64)
            .map_err(Error::file("read", image))?;
        let line = format!("piece {piece}\n");
        let expected = line.bytes().cycle().take(size);
        assert!(
            bytes.iter().copied().eq(expected),
            "piece {piece} of {} differs",
            image.display()
        );
    }
    // The guest reads what the image has: pieces that it names in another order.
    let sum = |piece: usize| {
        let bytes = format!("yes piece {piece} | head -c {size} | md5sum");
        let there =
            format!("dd if=/dev/vda bs={size} skip={piece} count=1 iflag=direct 2>/dev/null | md5sum");
        format!("[ \"$({bytes})\" = \"$({there})\" ] || echo {piece} differs")
    };
    for piece in (0..8).map(|n| (n * 29 + 5) % count) {
        let wrong = agent.exec(&sum(piece))?;
        assert_eq!(wrong.trim(), "");
    }
    Ok(())
}

/// What the guest discards goes back to the host.
fn discards<W: Write>(agent: &mut Agent<W>, image: &Path) -> Result<()> {
    let blocks = || {
        let file = File::open(image)?;
        file.sync_all()?;
        Ok(file.metadata()?.blocks() * 512)
    };
    let blocks = || blocks().map_err(Error::file("measure", image));
    let before = blocks()?;
    agent.exec(&format!("blkdiscard -o {} -l {} /dev/vda", 8 * MIB, 4 * MIB))?;
    let after = blocks()?;
    assert!(after + 4 * MIB <= before, "{before} bytes before, {after} after");
    Ok(())
}

fn stats(qmp: &mut Qmp) -> Result<Value> {
    qmp.command("query-blockstats", Value::Null)
}

/// A figure of the disk with that drive.
fn of_disk(stats: &Value, drive: &str, name: &str) -> u64 {
    let disk = (stats.as_array().into_iter().flatten()).find(|disk| disk["device"] == drive);
    let figure = disk.and_then(|disk| disk["stats"][name].as_u64());
    figure.unwrap_or_else(|| panic!("no {name} of {drive} in {stats}"))
}

fn until(what: &str, mut done: impl FnMut() -> Result<bool>) -> Result<()> {
    let start = Instant::now();
    while !done()? {
        assert!(start.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
