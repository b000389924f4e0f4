use std::sync::Mutex;

use super::*;

/// Remembers the last write and reads back its own offset.
#[derive(Default)]
struct Probe {
    written: Mutex<Vec<(u64, Vec<u8>)>>,
    resets: Mutex<u32>,
}

impl BusDevice for Probe {
    fn read(&self, offset: u64, data: &mut [u8]) {
        data.fill(u8::try_from(offset).unwrap());
    }

    fn write(&self, offset: u64, data: &[u8]) -> Action {
        self.written.lock().unwrap().push((offset, data.to_vec()));
        Action::Reset
    }

    fn reset(&self) {
        *self.resets.lock().unwrap() += 1;
    }
}

#[test]
fn a_reset_reaches_every_device() {
    let (mut bus, _) = bus(BusKind::Ports);
    let probes = [Arc::new(Probe::default()), Arc::new(Probe::default())];
    for (base, probe) in [0x100, 0x200].into_iter().zip(&probes) {
        bus.insert(base, 8, probe.clone()).unwrap();
    }
    bus.reset();
    assert!(probes.iter().all(|probe| *probe.resets.lock().unwrap() == 1));
}

fn bus(kind: BusKind) -> (Bus, Arc<Faults>) {
    let faults = Arc::new(Faults::new());
    (Bus::new(kind, Arc::clone(&faults)), faults)
}

#[test]
fn finds_the_device_and_the_offset() {
    let (mut bus, faults) = bus(BusKind::Ports);
    let probe = Arc::new(Probe::default());
    bus.insert(0x20, 2, Arc::new(Probe::default())).unwrap();
    bus.insert(0x3f8, 8, probe.clone()).unwrap();
    bus.insert(0x10, 2, Arc::new(Probe::default())).unwrap();
    let mut byte = [0];
    bus.read(0x3fd, &mut byte);
    assert_eq!(byte, [5]);
    assert_eq!(bus.write(0x3f8, &[1, 2]), Action::Reset);
    assert_eq!(*probe.written.lock().unwrap(), [(0, vec![1, 2])]);
    assert_eq!(faults.get("unknown-port"), Some(0));
}

#[test]
fn reads_all_ones_where_nothing_is() {
    let (mut bus, faults) = bus(BusKind::Mmio);
    bus.insert(0x1000, 0x1000, Arc::new(Probe::default())).unwrap();
    for address in [0, 0xfff, 0x2000, u64::MAX] {
        let mut data = [0; 1];
        bus.read(address, &mut data);
        assert_eq!(data, [0xff]);
        assert_eq!(bus.write(address, &[0]), Action::None);
    }
    assert_eq!(faults.get("unknown-mmio"), Some(8));
    assert_eq!(faults.get("unknown-port"), Some(0));
}

/// An access that leaves the device's range, or the address space, reaches no device.
#[test]
fn refuses_accesses_across_an_end() {
    let (mut bus, faults) = bus(BusKind::Mmio);
    bus.insert(0x1000, 0x1000, Arc::new(Probe::default())).unwrap();
    bus.insert(u64::MAX - 3, 4, Arc::new(Probe::default())).unwrap();
    let mut data = [0; 8];
    for address in [0xffc, 0x1ffc, u64::MAX - 3, u64::MAX] {
        bus.read(address, &mut data);
        assert_eq!(data, [0xff; 8]);
    }
    bus.read(0x1000, &mut []);
    assert_eq!(faults.get("unknown-mmio"), Some(5));
}

#[test]
fn refuses_bad_ranges() {
    let (mut bus, _) = bus(BusKind::Mmio);
    let probe = Arc::new(Probe::default());
    assert_eq!(
        bus.insert(5, 0, probe.clone()),
        Err(BusError::CheckRange { base: 5, len: 0 })
    );
    assert!(matches!(
        bus.insert(u64::MAX, 2, probe.clone()),
        Err(BusError::CheckRange { .. })
    ));
    bus.insert(0x100, 0x10, probe.clone()).unwrap();
    for (base, len) in [(0x100, 1), (0xff, 2), (0x10f, 1), (0, 0x1000)] {
        assert_eq!(
            bus.insert(base, len, probe.clone()),
            Err(BusError::Insert {
                base,
                len,
                other: 0x100
            })
        );
    }
    bus.insert(0xff, 1, probe.clone()).unwrap();
    bus.insert(0x110, 1, probe).unwrap();
}
