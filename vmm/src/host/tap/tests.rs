//! With real interfaces, in a network namespace of the test's thread.

use std::os::fd::{FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use vm_memory::VolatileSlice;

use super::*;

/// Runs `test` in a network namespace of its own; says so where that cannot be had.
fn alone(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(|| {
        // SAFETY: only this thread moves, and nothing in it depends on where it is.
        if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 || File::open(DEVICE).is_err() {
            println!("NOT CHECKED: tap interfaces need root and {DEVICE}");
            return;
        }
        test();
    });
    thread.join().unwrap();
}

/// Makes an interface that stays.
fn make(name: &str) {
    let file = File::options().read(true).write(true).open(DEVICE).unwrap();
    attach(&file, name).unwrap();
    // SAFETY: TUNSETPERSIST takes a number, and touches no memory of ours.
    check(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETPERSIST, 1) }).unwrap();
}

fn socket(family: libc::c_int, kind: libc::c_int, protocol: libc::c_int) -> OwnedFd {
    // SAFETY: socket(2) touches no memory of ours.
    let fd = unsafe { libc::socket(family, kind, protocol) };
    assert!(fd >= 0, "{}", io::Error::last_os_error());
    // SAFETY: nobody else has it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Switches the interface on.
fn up(name: &str) {
    let socket = socket(libc::AF_INET, libc::SOCK_DGRAM, 0);
    // SAFETY: an all-zero ifreq is a valid one.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(libc::IFF_UP).unwrap();
    // SAFETY: the kernel reads `request`, which lives until the call returns.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw mut request) }).unwrap();
}

/// A socket for whole frames on the host's side.
fn host_side(name: &str) -> File {
    const ALL: u16 = 3_u16.to_be();
    let socket = socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_NONBLOCK, ALL.into());
    let name = CString::new(name).unwrap();
    // SAFETY: an all-zero sockaddr_ll is a valid one.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = u16::try_from(libc::AF_PACKET).unwrap();
    address.sll_protocol = ALL;
    // SAFETY: `name` has a zero at its end.
    address.sll_ifindex = unsafe { libc::if_nametoindex(name.as_ptr()) }.cast_signed();
    let size = libc::socklen_t::try_from(size_of_val(&address)).unwrap();
    // SAFETY: the kernel reads `size` bytes of `address`.
    check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), size) }).unwrap();
    socket.into()
}

/// Reads frames until one has these bytes at `at`; the kernel sends some of its own.
fn until(
    what: &str,
    at: usize,
    bytes: &[u8],
    mut read: impl FnMut(&mut [u8]) -> io::Result<usize>,
) -> Vec<u8> {
    let start = Instant::now();
    let mut buffer = vec![0; 70_000];
    loop {
        match read(&mut buffer) {
            Ok(length)
                if buffer[..length]
                    .get(at..)
                    .is_some_and(|rest| rest.starts_with(bytes)) =>
            {
                buffer.truncate(length);
                return buffer;
            }
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
        }
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "waited in vain for {what}"
        );
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn frames_pass_both_ways() {
    alone(|| {
        make("tap0");
        up("tap0");
        let mut tap = Tap::open("tap0").unwrap();
        let mut host = host_side("tap0");
        // To everybody, from a card, with an Ethernet type for experiments.
        let frame = [&[0xff; 6][..], &[2, 0, 0, 0, 0, 1], &[0x88, 0xb5], &[7; 100]].concat();
        let mut memory = [vec![0; HEADER], frame.clone()].concat();
        let whole = VolatileSlice::from(&mut memory[..]);
        let (header, rest) = whole.split_at(5).unwrap();
        tap.send(&[header, rest]).unwrap();
        let got = until("a frame of the guest's", 6, &frame[6..14], |buffer| {
            host.read(buffer)
        });
        assert_eq!(got, frame);

        // The kernel drops what comes before it has noticed that there is somebody at the other end.
        let got = until("a frame of the host's", HEADER + 6, &frame[6..14], |buffer| {
            io::Write::write_all(&mut host, &frame)?;
            tap.receive(buffer)
        });
        assert_eq!(got[HEADER..], frame);
        assert_eq!(got[..HEADER], [0; HEADER]);

        let mut nonsense = [&[1, 0xff][..], &[0; 100]].concat();
        let error = tap.send(&[VolatileSlice::from(&mut nonsense[..])]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        let all = Offloads {
            checksum: true,
            tso4: true,
            tso6: true,
            ecn: true,
        };
        tap.set_offloads(all).unwrap();
        tap.set_offloads(Offloads::default()).unwrap();
    });
}

#[test]
fn says_what_is_wrong_with_an_interface() {
    alone(|| {
        let text = |name: &str| Tap::open(name).unwrap_err().to_string();
        let missing = text("tap9");
        assert!(missing.contains("there is no interface 'tap9'"), "{missing}");
        assert!(missing.contains("ip tuntap add dev tap9"), "{missing}");
        let other = text("lo");
        assert!(other.contains("'lo' is not a tap interface"), "{other}");
        make("tap0");
        let tap = Tap::open("tap0").unwrap();
        let busy = text("tap0");
        assert!(busy.contains("in use"), "{busy}");
        drop(tap);
        Tap::open("tap0").unwrap();
    });
}
