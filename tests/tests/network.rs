//! Network cards, as a stock kernel's driver uses them: bytes go to the guest and come back, and are compared.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::Value;
use tests::harness::agent::{Agent, BOOT};
use tests::harness::vm::{Launch, Vm};
use tests::harness::{Error, Result};

const PATIENCE: Duration = Duration::from_secs(120);
/// What two network cards exchange without offloads: an Ethernet header and 1500 bytes.
const FULL_FRAME: u64 = 1514;

/// In a network namespace of its own, with interfaces that are up.
fn launch(cards: &[String]) -> Launch {
    let setup = format!(
        "set -e; for n in $(seq 0 {}); do tunctl -t tap$n >/dev/null; echo 0 >/proc/sys/net/ipv6/conf/tap$n/accept_dad; \
         ip addr add 10.7.$n.1/24 dev tap$n; ip addr add fd07:$n::1/64 dev tap$n; ip link set tap$n up; done; exec \"$@\"",
        cards.len() - 1
    );
    let mut launch = Launch::stock().under(&["unshare", "-n", "sh", "-c", &setup, "sh"]);
    for (number, card) in cards.iter().enumerate() {
        launch = launch.line(&format!(
            "-netdev tap,id=n{number},ifname=tap{number},script=no -device virtio-net-pci,netdev=n{number}{card}"
        ));
    }
    launch
}

/// Runs `work` in the network namespace of a process; what it opens there stays there.
fn inside<T: Send>(pid: u32, work: impl FnOnce() -> io::Result<T> + Send) -> Result<T> {
    let path = format!("/proc/{pid}/ns/net");
    let enter = || {
        let namespace = File::open(&path)?;
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
        work()
    };
    thread::scope(|scope| end(scope.spawn(enter).join())).map_err(Error::file("enter", path.as_ref()))
}

/// What a thread has to say, a panic included.
fn end<T>(joined: thread::Result<T>) -> T {
    joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// The host's end of a card, IPv4 and IPv6.
fn addresses(card: usize) -> [IpAddr; 2] {
    // Decimal digits stand in both, as the shell writes them.
    let card = u8::try_from(card).unwrap_or(u8::MAX);
    let digits = card / 10 * 16 + card % 10;
    [
        Ipv4Addr::new(10, 7, card, 1).into(),
        Ipv6Addr::new(0xfd07, digits.into(), 0, 0, 0, 0, 0, 1).into(),
    ]
}

/// Gives the guest's end of a card its addresses.
fn configure<W: Write>(agent: &mut Agent<W>, card: usize) -> Result<()> {
    agent.exec(&format!(
        "echo 0 >/proc/sys/net/ipv6/conf/eth{card}/accept_dad; ip addr add 10.7.{card}.2/24 dev eth{card}; \
         ip addr add fd07:{card}::2/64 dev eth{card}; ip link set eth{card} up"
    ))?;
    Ok(())
}

/// Bytes that are the same every time, and not the same anywhere.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut bytes: Vec<u8> = (0..length.div_ceil(8)).flat_map(|_| next()).collect();
    bytes.truncate(length);
    bytes
}

/// A listener on the host's end, and what it does with the first who comes.
fn serve<T: Send + 'static>(
    vm: &Vm,
    address: IpAddr,
    serve: impl FnOnce(TcpStream) -> io::Result<T> + Send + 'static,
) -> Result<(u16, JoinHandle<io::Result<T>>)> {
    let (listener, port) = inside(vm.pid(), || {
        let listener = TcpListener::bind((address, 0))?;
        let port = listener.local_addr()?.port();
        Ok((listener, port))
    })?;
    let server = thread::spawn(move || {
        let (stream, _) = listener.accept()?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        serve(stream)
    });
    Ok((port, server))
}

/// Bytes and frames that an interface got from the guest, and those that it handed to it.
fn counters(pid: u32, card: usize) -> Result<[(u64, u64); 2]> {
    let path = format!("/proc/{pid}/net/dev");
    let text = std::fs::read_to_string(&path).map_err(Error::file("read", path.as_ref()))?;
    let prefix = format!("tap{card}:");
    let line = text.lines().find_map(|line| line.trim().strip_prefix(&prefix));
    let numbers: Vec<u64> = line
        .into_iter()
        .flat_map(str::split_whitespace)
        .filter_map(|word| word.parse().ok())
        .collect();
    assert!(numbers.len() >= 10, "{text}");
    Ok([(numbers[0], numbers[1]), (numbers[8], numbers[9])])
}

/// Brings bytes to the guest and fetches them, which have to be the same; the mean size of the frames that came and went.
fn exchange<W: Write>(
    vm: &Vm,
    agent: &mut Agent<W>,
    card: usize,
    address: IpAddr,
    length: usize,
) -> Result<[u64; 2]> {
    let bytes = noise(length);
    let sent = bytes.clone();
    let pid = vm.pid();
    let start = counters(pid, card)?;
    let (there, sender) = serve(vm, address, move |mut stream| stream.write_all(&sent))?;
    let (back, receiver) = serve(vm, address, move |mut stream| {
        // The guest comes when it has everything.
        let middle = counters(pid, card);
        let mut got = Vec::new();
        stream.read_to_end(&mut got).map(|_| (middle, got))
    })?;
    // One request for both: each takes longer than these bytes. `nc` itself would send 1 KiB at a time, and a network that is
    // fast enough carries each as it comes: nothing is left to cut.
    let request = format!(
        "nc {address} {there} </dev/null >/tmp/bytes; nc {address} {back} -e dd if=/tmp/bytes bs=1M; rm /tmp/bytes"
    );
    agent.exec_patiently(&request, PATIENCE)?;
    end(sender.join()).map_err(Error::file("send to", "the guest".as_ref()))?;
    let (middle, got) = end(receiver.join()).map_err(Error::file("receive from", "the guest".as_ref()))?;
    assert_eq!(got.len(), bytes.len(), "bytes that came back from {address}");
    assert!(got == bytes, "what came back from {address} differs");
    let mean = |before: (u64, u64), after: (u64, u64)| (after.0 - before.0) / (after.1 - before.1).max(1);
    let (middle, end) = (middle?, counters(pid, card)?);
    Ok([mean(start[1], middle[1]), mean(middle[0], end[0])])
}

/// Does something while the host sends the guest all that it can.
fn amid_a_flood<T>(vm: &Vm, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let flooding = AtomicBool::new(true);
    let [v4, _] = addresses(0);
    let socket = inside(vm.pid(), || UdpSocket::bind((v4, 0)))?;
    thread::scope(|scope| {
        scope.spawn(|| {
            let start = Instant::now();
            while flooding.load(Ordering::Relaxed) && start.elapsed() < PATIENCE {
                // The guest may have no address at the moment.
                socket.send_to(&[7; 1200], "10.7.0.2:9").ok();
            }
        });
        let done = work();
        flooding.store(false, Ordering::Relaxed);
        done
    })
}

/// What the card says that the guest did wrong, and the guest's driver of the card; there should be nothing.
fn no_faults<W: Write>(vm: &Vm, agent: &mut Agent<W>) -> Result<()> {
    let errors =
        agent.exec("cd /sys/class/net/eth0/statistics; cat rx_errors rx_length_errors rx_frame_errors")?;
    assert_eq!(errors.split_whitespace().collect::<Vec<_>>(), ["0"; 3]);
    let faults = vm.qmp()?.command("x-ballast-query-faults", Value::Null)?;
    let counts = faults.as_array().map(Vec::as_slice).unwrap_or_default();
    let card = ["net-frame", "virtio-chain", "virtio-queue", "virtio-status"];
    for kind in card {
        let count = counts.iter().find(|fault| fault["kind"] == kind);
        assert!(count.is_some_and(|fault| fault["count"] == 0), "{kind}: {faults}");
    }
    Ok(())
}

#[test]
#[ignore = "needs the lab: cargo lab test"]
fn a_card_moves_bytes_both_ways() -> Result<()> {
    let card = ",mac=52:54:00:00:07:01".to_owned();
    // One processor: the emulated lab host loses busy guests with several now and then.
    let mut vm = launch(&[card]).line("-m 256").qmp().start()?;
    let mut agent = vm.boot()?;
    let facts = agent.exec("cat /sys/class/net/eth0/address; lspci -n | grep -c 1af4:1041")?;
    assert_eq!(
        facts.split_whitespace().collect::<Vec<_>>(),
        ["52:54:00:00:07:01", "1"]
    );
    configure(&mut agent, 0)?;
    agent.exec("ping -c 1 -W 10 10.7.0.1")?;
    let [v4, v6] = addresses(0);
    for address in [v4, v6] {
        let [came, went] = exchange(&vm, &mut agent, 0, address, 4 << 20)?;
        println!("{address}: frames of {came} bytes to the guest, {went} from it");
        assert!(
            came > FULL_FRAME && went > FULL_FRAME,
            "no offload: {came} {went}"
        );
    }

    // The machine stands still now and then: nothing is lost for good.
    let mut qmp = vm.qmp()?;
    let pauses = thread::spawn(move || -> Result<()> {
        for _ in 0..4 {
            thread::sleep(Duration::from_millis(100));
            qmp.command("stop", Value::Null)?;
            thread::sleep(Duration::from_millis(100));
            qmp.command("cont", Value::Null)?;
        }
        Ok(())
    });
    exchange(&vm, &mut agent, 0, v4, 16 << 20)?;
    end(pauses.join())?;
    // The driver begins to count anew when it comes again.
    no_faults(&vm, &mut agent)?;

    // The driver goes and comes amid a flood.
    let device =
        "d=$(basename $(readlink /sys/class/net/eth0/device)); cd /sys/bus/virtio/drivers/virtio_net";
    amid_a_flood(&vm, || {
        (0..3).try_for_each(|_| {
            agent.exec(&format!("{device}; echo $d >unbind; echo $d >bind"))?;
            configure(&mut agent, 0)
        })
    })?;
    exchange(&vm, &mut agent, 0, v4, 1 << 20)?;
    no_faults(&vm, &mut agent)?;

    let refused = |interface: &str, says: &str| -> Result<()> {
        let pid = vm.pid().to_string();
        let card = format!("-netdev tap,id=n,ifname={interface},script=no -device virtio-net-pci,netdev=n");
        let mut other = Launch::stock()
            .under(&["nsenter", "-t", &pid, "-n"])
            .line(&card)
            .start()?;
        assert_eq!(other.wait(PATIENCE)?.code(), Some(1));
        let errors = other.errors.text();
        assert!(errors.contains(says), "{errors}");
        Ok(())
    };
    refused("tap0", "the interface 'tap0' is in use")?;
    refused("tap9", "there is no interface 'tap9'")?;
    refused("lo", "'lo' is not a tap interface")?;
    agent.power_off()?;
    vm.wait(PATIENCE)?;
    Ok(())
}

#[test]
#[ignore = "needs the lab: cargo lab test"]
fn long_cards_survive_resets_amid_a_flood() -> Result<()> {
    let mut vm = launch(&[String::new()])
        .line("-m 256 -smp 2")
        .reboots()
        .qmp()
        .start()?;
    let mut agent = vm.boot()?;
    let mut qmp = vm.qmp()?;
    let [v4, _] = addresses(0);
    for _ in 0..3 {
        configure(&mut agent, 0)?;
        exchange(&vm, &mut agent, 0, v4, 1 << 20)?;
        agent = amid_a_flood(&vm, || {
            qmp.command("system_reset", Value::Null)?;
            Agent::wait(agent.console, BOOT)
        })?;
    }
    configure(&mut agent, 0)?;
    exchange(&vm, &mut agent, 0, v4, 1 << 20)?;
    no_faults(&vm, &mut agent)?;
    agent.power_off()?;
    vm.wait(PATIENCE)?;
    Ok(())
}

/// Cards of a guest: as many as a bus has room for, less some.
const CARDS: usize = 26;

/// The offloads of one direction that go together: checksums, TCP over IPv4, over IPv6, with ECN. The device makes
/// one of these of any other set before it offers it (virtio specification 1.3, section 5.1.3.1).
const OFFLOADS: [[bool; 4]; 8] = [
    [false, false, false, false],
    [true, false, false, false],
    [true, true, false, false],
    [true, false, true, false],
    [true, true, true, false],
    [true, true, false, true],
    [true, false, true, true],
    [true, true, true, true],
];

#[test]
#[ignore = "needs the lab: cargo lab test"]
fn long_cards_move_bytes_with_every_set_of_offloads() -> Result<()> {
    let sets: Vec<_> = OFFLOADS
        .iter()
        .flat_map(|host| OFFLOADS.iter().map(move |guest| (host, guest)))
        .flat_map(|(host, guest)| [true, false].map(|merge| (host, guest, merge)))
        .collect();
    for sets in sets.chunks(CARDS) {
        let cards: Vec<String> = sets
            .iter()
            .map(|(host, guest, merge)| {
                let names = [
                    "csum",
                    "host_tso4",
                    "host_tso6",
                    "host_ecn",
                    "guest_csum",
                    "guest_tso4",
                    "guest_tso6",
                    "guest_ecn",
                    "mrg_rxbuf",
                ];
                let switches = host.iter().chain(*guest).chain([merge]);
                let switch =
                    |(name, on): (&str, &bool)| format!(",{name}={}", if *on { "on" } else { "off" });
                names.into_iter().zip(switches).map(switch).collect()
            })
            .collect();
        // Guests with more than one processor are lost to the emulated lab host now and then, the sooner the busier.
        let mut vm = launch(&cards).line("-m 1G").qmp().start()?;
        let mut agent = vm.boot()?;
        for (card, (host, guest, _)) in sets.iter().enumerate() {
            let address = agent.exec(&format!("cat /sys/class/net/eth{card}/address"))?;
            assert_eq!(address.trim(), format!("52:54:00:12:34:{:x}", 0x56 + card));
            configure(&mut agent, card)?;
            for (address, kind) in addresses(card).into_iter().zip([1, 2]) {
                let means = exchange(&vm, &mut agent, card, address, 256 << 10)?;
                for (mean, whole) in means.into_iter().zip([guest[kind], host[kind]]) {
                    assert_eq!(
                        mean > FULL_FRAME,
                        whole,
                        "{}: {means:?} at {address}",
                        cards[card]
                    );
                }
            }
        }
        no_faults(&vm, &mut agent)?;
        agent.power_off()?;
        vm.wait(PATIENCE)?;
    }
    Ok(())
}
