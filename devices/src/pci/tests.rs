use std::sync::Mutex;

use super::*;

/// A function with a BAR of 4 KiB that may be anywhere.
struct Probe {
    id: u8,
    bar: Mutex<Option<u64>>,
    written: Mutex<Vec<(u64, Vec<u8>)>>,
}

impl Probe {
    fn new(id: u8, bar: Option<u64>) -> Arc<Probe> {
        Arc::new(Probe {
            id,
            bar: Mutex::new(bar),
            written: Mutex::default(),
        })
    }
}

impl PciFunction for Probe {
    fn config_read(&self, _offset: u16, data: &mut [u8]) {
        data.fill(self.id);
    }

    fn config_write(&self, offset: u16, data: &[u8]) -> Action {
        self.written.lock().unwrap().push((offset.into(), data.to_vec()));
        Action::None
    }

    fn bar(&self) -> Option<(u64, u64)> {
        self.bar.lock().unwrap().map(|base| (base, 0x1000))
    }

    fn bar_read(&self, offset: u64, data: &mut [u8]) {
        assert!(offset + u64::try_from(data.len()).unwrap() <= 0x1000);
        data.fill(self.id);
    }

    fn bar_write(&self, offset: u64, data: &[u8]) -> Action {
        self.written.lock().unwrap().push((offset, data.to_vec()));
        Action::None
    }

    fn reset(&self) {
        self.written.lock().unwrap().clear();
    }

    fn end(&self, _: &Waits<'_>) {}
}

fn root() -> (PciRoot, Arc<Faults>) {
    let faults = Arc::new(Faults::new());
    (PciRoot::new(Arc::clone(&faults)), faults)
}

fn read(device: &dyn BusDevice, offset: u64) -> u32 {
    let mut data = [0; 4];
    device.read(offset, &mut data);
    u32::from_le_bytes(data)
}

#[test]
fn enumeration_finds_what_is_there() {
    let (root, faults) = root();
    root.add(3, Probe::new(7, None)).unwrap();
    let ecam = root.ecam();
    let found: Vec<u64> = (0..=0xffff)
        .filter(|at| read(&*ecam, at << 12) != u32::MAX)
        .collect();
    assert_eq!(found, [0, 3 << 3]);
    assert_eq!(read(&*ecam, 0), 0x0008_1b36);
    assert_eq!(read(&*ecam, 8), 0x0600_0000);
    assert_eq!(read(&*ecam, 3 << 15), 0x0707_0707);
    assert!(
        faults.counts().iter().all(|(_, count)| *count == 0),
        "looking is no fault"
    );
}

#[test]
fn device_numbers_are_taken_once() {
    let (root, _) = root();
    assert_eq!(root.add(0, Probe::new(1, None)), Err(PciError::Add { number: 0 }));
    root.add(31, Probe::new(1, None)).unwrap();
    assert_eq!(
        root.add(31, Probe::new(1, None)),
        Err(PciError::Add { number: 31 })
    );
    assert_eq!(
        root.add(32, Probe::new(1, None)),
        Err(PciError::Add { number: 32 })
    );
}

#[test]
fn host_bridge_takes_writes_calmly() {
    let (root, _) = root();
    let ecam = root.ecam();
    for offset in (0..0x1000).step_by(4) {
        assert_eq!(ecam.write(offset, &[0xff; 4]), Action::None);
    }
    assert_eq!(read(&*ecam, 0), 0x0008_1b36);
    assert_eq!(read(&*ecam, 0x34), 0);
    assert_eq!(read(&*ecam, 0x100), u32::MAX, "no extended configuration space");
}

#[test]
fn configuration_accesses_stay_in_their_function() {
    let (root, faults) = root();
    let probe = Probe::new(7, None);
    root.add(1, probe.clone()).unwrap();
    let ecam = root.ecam();
    let mut data = [0; 8];
    ecam.read((1 << 15) + 0xffc, &mut data);
    assert_eq!(data, [0xff; 8]);
    let _ = ecam.write((1 << 15) + 0xfff, &[0; 2]);
    ecam.read(u64::MAX - 7, &mut data);
    assert_eq!(data, [0xff; 8]);
    assert!(probe.written.lock().unwrap().is_empty());
    assert_eq!(faults.get("pci-config"), Some(2));
}

#[test]
fn window_follows_the_bars() {
    let (root, faults) = root();
    let probe = Probe::new(7, Some(PCI32_WINDOW_START + 0x10_0000));
    root.add(1, probe.clone()).unwrap();
    root.add(2, Probe::new(8, Some(PCI32_WINDOW_START))).unwrap();
    let window = root.window();
    assert_eq!(read(&*window, 0x10_0000), 0x0707_0707);
    assert_eq!(read(&*window, 0), 0x0808_0808);
    *probe.bar.lock().unwrap() = Some(PCI32_WINDOW_START + 0x20_0000);
    assert_eq!(read(&*window, 0x10_0000), u32::MAX);
    let _ = window.write(0x20_0ff8, &[1; 8]);
    assert_eq!(*probe.written.lock().unwrap(), [(0xff8, vec![1; 8])]);
    *probe.bar.lock().unwrap() = None;
    assert_eq!(read(&*window, 0x20_0000), u32::MAX);
    let _ = window.write(0x20_0000, &[1]);
    assert_eq!(faults.get("unknown-mmio"), Some(3));
}

#[test]
fn window_refuses_accesses_across_an_end() {
    let (root, faults) = root();
    root.add(1, Probe::new(7, Some(PCI32_WINDOW_START + 0x1000)))
        .unwrap();
    let window = root.window();
    for offset in [0xffd, 0x1ffd, u64::MAX] {
        assert_eq!(read(&*window, offset), u32::MAX);
    }
    assert_eq!(faults.get("unknown-mmio"), Some(3));
}

#[test]
fn ports_lead_to_the_same_functions() {
    let (root, faults) = root();
    let probe = Probe::new(7, None);
    root.add(3, probe.clone()).unwrap();
    let ports = root.ports();
    assert_eq!(read(&*ports, 4), u32::MAX, "not enabled");
    let select = |address: u32| ports.write(0, &address.to_le_bytes());
    let _ = select(0x8000_0000);
    assert_eq!((read(&*ports, 0), read(&*ports, 4)), (0x8000_0000, 0x0008_1b36));
    let _ = select(0x8000_0008);
    let mut class = [0; 2];
    ports.read(6, &mut class);
    assert_eq!(class, [0x00, 0x06]);
    let _ = select(0x8000_0000 | 3 << 11 | 0x40);
    let _ = ports.write(5, &[9]);
    assert_eq!(*probe.written.lock().unwrap(), [(0x41, vec![9])]);
    for address in [
        0x8001_0000,
        0x8000_0000 | 3 << 11 | 1 << 8,
        0x8000_0000 | 4 << 11,
        0x0000_1800,
    ] {
        let _ = select(address);
        assert_eq!(read(&*ports, 4), u32::MAX, "{address:#x}");
    }
    let _ = select(u32::MAX);
    assert_eq!(read(&*ports, 0), 0x80ff_fffc);
    for offset in 0..8 {
        for len in [1, 2, 4, 8] {
            ports.read(offset, &mut vec![0; len]);
            assert_eq!(ports.write(offset, &vec![0x80; len]), Action::None);
        }
    }
    assert!(faults.counts().iter().all(|(_, count)| *count == 0));
}
