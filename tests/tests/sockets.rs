//! Sockets between guest and host, as a stock kernel's driver makes them.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread;
use std::time::Duration;

use tests::harness::vm::Launch;
use tests::harness::{Error, Result};

/// Longer than any of it takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// A program of the host that gives back what it gets, once.
fn echo(listener: &UnixListener) -> io::Result<u64> {
    let (stream, _) = listener.accept()?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let count = io::copy(&mut &stream, &mut &stream)?;
    stream.shutdown(Shutdown::Write)?;
    Ok(count)
}

/// Calls a port of the guest; what is said to that.
fn call(path: &Path, port: u32) -> io::Result<(UnixStream, String)> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    writeln!(stream, "CONNECT {port}")?;
    let mut answer = Vec::new();
    let mut byte = [0];
    while !answer.ends_with(b"\n") && stream.read(&mut byte)? == 1 {
        answer.extend(byte);
    }
    Ok((stream, String::from_utf8_lossy(&answer).into_owned()))
}

#[test]
#[ignore = "needs the lab: cargo lab test"]
fn the_sockets_carry_much_without_a_network() -> Result<()> {
    let directory = tempfile::tempdir().map_err(Error::file("create", Path::new("/tmp")))?;
    let path = directory.path().join("v");
    let mut vm = Launch::stock()
        .line("-m 256 -smp 2")
        .args([
            "-device",
            &format!("virtio-vsock-pci,guest-cid=42,socket={}", path.display()),
        ])
        .start()?;
    let mut agent = vm.boot()?;
    assert_eq!(agent.exec("lspci -nn")?.matches("[1af4:1053]").count(), 1);

    // The guest calls, with 1.3 MB there and back.
    let listener = UnixListener::bind(directory.path().join("v_1234")).expect("a socket");
    let server = thread::spawn(move || echo(&listener));
    let sums = agent.exec("seq 1 200000 | md5sum; seq 1 200000 | /init connect 1234 | md5sum")?;
    let echoed = server.join().expect("no panic").expect("the guest's bytes");
    assert_eq!(echoed, 1_288_895);
    let (there, back) = sums.trim().split_once('\n').expect("two sums");
    assert_eq!(there, back);

    // The host calls; nobody else does at that port.
    agent.exec("/init serve 77 >/dev/null 2>&1 & sleep 0.3")?;
    let (mut stream, answer) = call(&path, 77).expect("the guest's answer");
    assert!(answer.starts_with("OK "), "{answer:?}");
    let bytes: Vec<u8> = (0..1_000_000_u32)
        .map(|number| number.to_le_bytes()[0] ^ 0x5a)
        .collect();
    let mut back = Vec::new();
    thread::scope(|scope| {
        let sender = scope.spawn(|| {
            (&stream).write_all(&bytes)?;
            stream.shutdown(Shutdown::Write)
        });
        (&stream)
            .read_to_end(&mut back)
            .expect("what the guest gives back");
        sender.join().expect("no panic").expect("the guest to take it");
    });
    assert!(back == bytes, "{} bytes came back", back.len());
    stream.flush().expect("an end");

    // Nobody there, on either side.
    let (status, said) = agent.try_exec("/init connect 4321 </dev/null")?;
    assert_ne!(status, 0, "{said}");
    assert!(said.contains("reset"), "{said}");
    assert_eq!(call(&path, 78).expect("an end").1, "");
    // The module keeps its sockets when it is loaded again, as after a reset of the device.
    let listener = UnixListener::bind(directory.path().join("v_5")).expect("a socket");
    let server = thread::spawn(move || echo(&listener));
    let device = "d=$(basename $(readlink -f /sys/bus/virtio/drivers/vmw_vsock_virtio_transport/virtio*))";
    let again = "cd /sys/bus/virtio/drivers/vmw_vsock_virtio_transport; echo $d >unbind; echo $d >bind";
    let word = agent.exec(&format!("{device}; ({again}); echo again | /init connect 5"))?;
    assert_eq!(word.trim(), "again");
    assert_eq!(server.join().expect("no panic").expect("the guest's word"), 6);
    Ok(())
}
