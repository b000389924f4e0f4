use crate::pci::config::CAPABILITIES;

use super::*;

fn description() -> Description {
    Description {
        id: "x".into(),
        device_type: 5,
        class: 0x00_ff_00,
        features: 0,
        queue_sizes: vec![128, 128],
        config_writable: Vec::new(),
    }
}

fn layout(config_len: u32) -> Layout {
    Layout::new(&description(), 0xc000_0000, config_len, 3)
}

/// Id, and for vendor capabilities type, offset and length, in list order.
fn walk(layout: &Layout) -> Vec<(u8, [u32; 3])> {
    let mut found = Vec::new();
    let mut at = layout.config.get_u32(CAPABILITIES) as usize & 0xff;
    while at != 0 {
        let [id, next, _, kind] = layout.config.get_u32(at).to_le_bytes();
        found.push((
            id,
            [
                kind.into(),
                layout.config.get_u32(at + 8),
                layout.config.get_u32(at + 12),
            ],
        ));
        at = next.into();
    }
    found
}

#[test]
fn says_that_it_is_a_modern_virtio_balloon() {
    let config = layout(8).config;
    assert_eq!(config.get_u32(0), 0x1045_1af4);
    assert_eq!(config.get_u32(8) & 0xff, 1);
    assert_eq!(config.get_u32(0x2c), 0x1045_1af4);
    assert_eq!(config.get_u32(0x3c), 0, "no interrupt pin");
}

#[test]
fn capabilities_name_every_structure() {
    let layout = layout(8);
    let found = walk(&layout);
    let vendor: Vec<[u32; 3]> = found
        .iter()
        .filter(|(id, _)| *id == 9)
        .map(|(_, cap)| *cap)
        .collect();
    assert_eq!(
        vendor,
        [
            [1, 0, 56],
            [3, 0x1000, 1],
            [4, 0x2000, 8],
            [2, 0x3000, 8],
            [5, 0, 0]
        ]
    );
    assert_eq!(found.last().unwrap().0, MSIX_CAPABILITY);
    let (msix, config) = (layout.msix, &layout.config);
    assert_eq!(config.get_u32(msix) >> 16, 2, "table size less one");
    assert_eq!(
        (config.get_u32(msix + 4), config.get_u32(msix + 8)),
        (0x4000, 0x5000)
    );
    assert_eq!(config.get_u32(layout.window) >> 16 & 0xff, 20);
}

#[test]
fn a_device_without_configuration_has_no_such_capability() {
    assert!(!walk(&layout(0)).iter().any(|(id, cap)| *id == 9 && cap[0] == 4));
}

#[test]
fn the_driver_may_write_window_and_control_only() {
    let mut layout = layout(8);
    let before = layout.config.clone();
    for offset in 0x40..256 {
        layout.config.write(offset, &[0xff]);
    }
    let changed: Vec<usize> = (0x40..256)
        .filter(|at| {
            let read = |config: &ConfigSpace| {
                let mut byte = [0];
                config.read(*at, &mut byte);
                byte
            };
            read(&before) != read(&layout.config)
        })
        .collect();
    let mut expected = vec![layout.window + WINDOW_BAR];
    expected.extend(layout.window + WINDOW_OFFSET..layout.window + WINDOW_DATA + 4);
    expected.push(layout.msix + MSIX_CONTROL_HIGH);
    assert_eq!(changed, expected);
    assert_eq!(layout.config.get_u32(layout.msix) >> 16, 0xc002);
}

#[test]
fn structures_are_found_by_offset() {
    assert_eq!(locate(0, 8), Some((Structure::Common, 0)));
    assert_eq!(locate(0x3004, 2), Some((Structure::Notify, 4)));
    assert_eq!(locate(0x5ff8, 8), Some((Structure::MsixPending, 0xff8)));
    assert_eq!(locate(0x0ffc, 8), None, "across two structures");
    assert_eq!(locate(0x6000, 1), None);
    assert_eq!(locate(u64::MAX, 1), None);
}
