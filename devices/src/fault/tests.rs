use super::*;

#[test]
fn counts_by_kind() {
    let faults = Faults::new();
    faults.count(GuestFault::UnknownPort { port: 0x80 });
    faults.count(GuestFault::UnknownPort { port: 0x81 });
    faults.count(GuestFault::BalloonOutside { bytes: 4096 });
    assert_eq!(faults.get("unknown-port"), Some(2));
    assert_eq!(faults.get("balloon-outside"), Some(1));
    assert_eq!(faults.get("virtio-chain"), Some(0));
    assert_eq!(faults.get("no-such-kind"), None);
    assert_eq!(faults.counts().len(), NAMES.len());
}

#[test]
fn every_kind_has_its_own_name() {
    let faults = [
        GuestFault::UnknownPort { port: 0 },
        GuestFault::UnknownMmio { address: 0 },
        GuestFault::Register {
            device: "x",
            offset: 0,
        },
        GuestFault::PciConfig { offset: 0 },
        GuestFault::VirtioRegister { offset: 0 },
        GuestFault::VirtioStatus { from: 0, to: 0 },
        GuestFault::VirtioFeatures { accepted: 0 },
        GuestFault::VirtioQueue { queue: 0 },
        GuestFault::VirtioChain { queue: 0 },
        GuestFault::BalloonLength { length: 0 },
        GuestFault::BalloonReport { length: 0 },
        GuestFault::BalloonStats { length: 0 },
        GuestFault::BalloonOutside { bytes: 0 },
        GuestFault::NetFrame { length: 0 },
        GuestFault::VsockPacket { port: 1 },
    ];
    let names: Vec<&str> = faults.iter().map(|fault| fault.name()).collect();
    assert_eq!(names, NAMES);
}

/// A flood of faults may cost one line a second and kind, no more.
#[test]
fn logs_at_a_bounded_rate() {
    let faults = Faults::new();
    let counter = &faults.counters[0];
    faults.count(GuestFault::UnknownPort { port: 0 });
    let logged = counter.last_logged.load(Ordering::Relaxed);
    assert_ne!(logged, NEVER);
    for _ in 0..10_000 {
        faults.count(GuestFault::UnknownPort { port: 0 });
    }
    let spent = faults.start.elapsed().as_millis();
    if spent < u128::from(LOG_INTERVAL_MS) {
        assert_eq!(counter.last_logged.load(Ordering::Relaxed), logged);
    }
    assert_eq!(faults.get("unknown-port"), Some(10_001));
}
