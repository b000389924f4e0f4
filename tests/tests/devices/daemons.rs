//! A disk and a network card that daemons serve from the guest's memory (vhost-user).

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use tests::agent::disk::Series;
use tests::harness::agent::Agent;
use tests::harness::qmp::Qmp;
use tests::harness::vm::Launch;
use tests::harness::{Error, Result};

use super::reflector::Reflector;
use super::{MIB, PATIENCE, until};

const FIRST: Series = Series {
    seed: 23,
    block: 64 << 10,
    count: 40,
    every: 13,
};
const SECOND: Series = Series { seed: 24, ..FIRST };

/// QEMU's storage daemon with an image; killed with the value.
pub(super) struct Daemon {
    child: Child,
    image: PathBuf,
    pub(super) socket: PathBuf,
}

impl Daemon {
    /// Serves a new image of 16 MiB.
    pub(super) fn start(directory: &Path) -> Result<Daemon> {
        let image = directory.join("served");
        fs::write(&image, vec![0; 16 << 20]).map_err(Error::file("write", &image))?;
        let socket = directory.join("daemon");
        let child = spawn(&image, &socket)?;
        Ok(Daemon { child, image, socket })
    }

    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_file(&self.socket);
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(image: &Path, socket: &Path) -> Result<Child> {
    let export = "type=vhost-user-blk,id=e,node-name=n,writable=on,num-queues=2,addr.type=unix,addr.path=";
    let child = Command::new("qemu-storage-daemon")
        .args([
            "--blockdev",
            &format!("driver=file,node-name=n,filename={}", image.display()),
        ])
        .args(["--export", &format!("{export}{}", socket.display())])
        .stdin(Stdio::null())
        .spawn();
    let child = child.map_err(Error::file("run", Path::new("qemu-storage-daemon")))?;
    until("the daemon's socket", || Ok(socket.exists()))?;
    Ok(child)
}

/// The guest writes and reads by way of the daemon, while the machine stops, the balloon takes memory, and one daemon follows
/// another.
pub(super) fn served<W: Write>(
    agent: &mut Agent<W>,
    qmp: &mut Qmp,
    disk: &str,
    daemon: &mut Daemon,
) -> Result<()> {
    let id = agent.write_disk(disk, FIRST)?;
    agent.disk_flushed(id)?;
    qmp.command("stop", Value::Null)?;
    thread::sleep(Duration::from_millis(200));
    qmp.command("cont", Value::Null)?;
    agent.disk_written(id)?;
    agent.verify_disk(disk, FIRST)?;

    let balloon = |qmp: &mut Qmp, mib: u64| {
        qmp.command("balloon", json!({ "value": mib * MIB }))?;
        until("the balloon", || {
            let answer = qmp.command("query-balloon", Value::Null)?;
            Ok(answer["actual"] == mib * MIB)
        })
    };
    balloon(qmp, 192)?;
    agent.verify_disk(disk, FIRST)?;
    balloon(qmp, 256)?;

    daemon.kill();
    daemon.child = spawn(&daemon.image, &daemon.socket)?;
    let id = agent.write_disk(disk, SECOND)?;
    agent.disk_written(id)?;
    agent.verify_disk(disk, SECOND)
}

/// The guest reaches its neighbour, while one daemon follows another.
pub(super) fn connected<W: Write>(
    agent: &mut Agent<W>,
    qmp: &mut Qmp,
    socket: &Path,
    neighbour: Reflector,
) -> Result<()> {
    agent.exec("ip addr add 10.9.0.2/24 dev eth0; ip link set eth0 up")?;
    let ping = "ping -c 30 -i 0.05 -W 10 -s 1200 10.9.0.1";
    let answers = agent.exec(ping)?;
    assert!(answers.contains(" 0% packet loss"), "{answers}");
    let there = qmp.command("x-ballast-query-daemons", Value::Null)?;
    let connected = there
        .as_array()
        .into_iter()
        .flatten()
        .filter(|daemon| daemon["connected"] == true);
    assert_eq!(connected.count(), 2, "{there}");
    let carrier = |agent: &mut Agent<W>, wanted: &str| {
        until("the carrier", || {
            Ok(agent.exec("cat /sys/class/net/eth0/carrier")?.trim() == wanted)
        })
    };
    carrier(agent, "1")?;
    neighbour.die()?;
    carrier(agent, "0")?;
    let _neighbour = Reflector::start(socket)?;
    carrier(agent, "1")?;
    let answers = agent.exec(ping)?;
    assert!(answers.contains(" 0% packet loss"), "{answers}");
    Ok(())
}

/// Memory that is Ballast's alone is no daemon's.
pub(super) fn refused(directory: &Path) -> Result<()> {
    let directory = directory.join("other");
    fs::create_dir(&directory).map_err(Error::file("make", &directory))?;
    let daemon = Daemon::start(&directory)?;
    let mut vm = Launch::stock()
        .args([
            "-chardev",
            &format!("socket,id=c,path={}", daemon.socket.display()),
        ])
        .line("-device vhost-user-blk-pci,chardev=c")
        .start()?;
    assert_eq!(vm.wait(PATIENCE)?.code(), Some(1));
    let text = vm.errors.text();
    assert!(text.contains("'ram'") && text.contains("share=on"), "{text}");
    Ok(())
}
