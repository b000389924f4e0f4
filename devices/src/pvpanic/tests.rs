use super::*;

const BAR: u32 = 0xc001_0000;

fn config(device: &PvPanic, offset: u16) -> u32 {
    let mut data = [0; 4];
    device.config_read(offset, &mut data);
    u32::from_le_bytes(data)
}

#[test]
fn drivers_know_it() {
    let device = PvPanic::new(BAR.into());
    assert_eq!(config(&device, 0), 0x0011_1b36);
    assert_eq!(config(&device, 0x10), BAR);
    assert_eq!(device.bar(), None);
    assert_eq!(device.config_write(4, &[2]), Action::None);
    assert_eq!(device.bar(), Some((BAR.into(), 16)));
    // Sizing.
    let _ = device.config_write(0x10, &[0xff; 4]);
    assert_eq!(config(&device, 0x10), 0xffff_fff0);
    device.reset();
    assert_eq!((config(&device, 0x10), device.bar()), (BAR, None));
}

#[test]
fn one_register_tells_and_hears_events() {
    let device = PvPanic::new(BAR.into());
    for len in [1, 2, 4, 8] {
        let mut data = vec![0xaa; len];
        device.bar_read(0, &mut data);
        assert_eq!((data[0], data[1..].iter().all(|byte| *byte == 0)), (3, true));
        device.bar_read(4, &mut data);
        assert!(data.iter().all(|byte| *byte == 0));
    }
    for (offset, byte, action) in [
        (0, PANICKED, Action::Panicked),
        (0, PANICKED | CRASH_LOADED, Action::Panicked),
        (0, CRASH_LOADED, Action::CrashLoaded),
        (0, 0, Action::None),
        (0, 0x80, Action::None),
        (1, PANICKED, Action::None),
    ] {
        assert_eq!(device.bar_write(offset, &[byte]), action, "{offset} {byte:#x}");
    }
}
