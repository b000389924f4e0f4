//! Does KVM run guests? A guest of a few instructions says so.

use std::fs;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::{Error, Result};

/// How long the guest may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// QEMU's exit status when a guest writes 0x10 to the port of `isa-debug-exit`: (value << 1) | 1.
const ALIVE: i32 = 0x21;
/// A firmware's size, and where in it the processor starts: 16 bytes before the end.
const FIRMWARE: usize = 64 << 10;

/// Real-mode code that counts to ten and writes 0x10 to port 0xf4.
const CODE: [u8; 17] = [
    0xb9, 0x0a, 0x00, // mov cx, 10
    0x31, 0xc0, // xor ax, ax
    0x40, // again: inc ax
    0xe2, 0xfd, // loop again
    0x83, 0xc0, 0x06, // add ax, 6
    0xba, 0xf4, 0x00, // mov dx, 0xf4
    0xee, // out dx, al
    0xf4, // hlt
    0x90, // nop
];
/// A jump from the reset vector, at offset 0xfff0, to offset 0.
const JUMP: [u8; 3] = [0xe9, 0x0d, 0x00];

/// Runs the probe guest under QEMU on `/dev/kvm`.
pub fn run() -> Result<()> {
    let directory = tempfile::tempdir().map_err(Error::file("create", &std::env::temp_dir()))?;
    let firmware = directory.path().join("probe.bin");
    fs::write(&firmware, image()).map_err(Error::file("write", &firmware))?;
    let mut command = Command::new("qemu-system-x86_64");
    command.args([
        "-accel",
        "kvm",
        "-cpu",
        "host",
        "-m",
        "16",
        "-nodefaults",
        "-display",
        "none",
        "-no-reboot",
    ]);
    command
        .args(["-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"])
        .arg("-bios")
        .arg(&firmware);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let name = "qemu-system-x86_64".to_owned();
    let mut child = command.spawn().map_err(|source| Error::Start {
        command: name.clone(),
        source,
    })?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let ended = child.try_wait().map_err(|source| Error::Start {
            command: name.clone(),
            source,
        })?;
        match ended {
            Some(status) if status.code() == Some(ALIVE) => return Ok(()),
            Some(status) => return Err(Error::Failed(format!("QEMU ended with {status}"))),
            None if Instant::now() > deadline => {
                child.kill().ok();
                child.wait().ok();
                return Err(Error::Failed("no sign of life in 10 s".into()));
            }
            None => thread::sleep(Duration::from_millis(20)),
        }
    }
}

fn image() -> Vec<u8> {
    let mut image = vec![0xf4; FIRMWARE];
    image[..CODE.len()].copy_from_slice(&CODE);
    let reset = FIRMWARE - 16;
    image[reset..reset + JUMP.len()].copy_from_slice(&JUMP);
    image
}
