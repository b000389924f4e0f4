use super::*;

fn space() -> ConfigSpace {
    ConfigSpace::new(Identity {
        vendor: 0x1af4,
        device: 0x1045,
        revision: 1,
        class: 0xff_00_01,
        subsystem_vendor: 0x1af4,
        subsystem: 0x1100,
    })
}

#[test]
fn header_says_who_it_is() {
    let space = space();
    assert_eq!(space.get_u32(0), 0x1045_1af4);
    assert_eq!(space.get_u32(8), 0xff00_0101);
    assert_eq!(space.get_u32(0x2c), 0x1100_1af4);
    assert_eq!(space.get_u32(0x3c) >> 8 & 0xff, 0, "interrupt pin");
    assert_eq!(space.get_u32(COMMAND), 0);
}

#[test]
fn only_writable_bits_change() {
    let mut space = space();
    for offset in 0..CONFIG_SIZE {
        space.write(offset, &[0xff]);
    }
    assert_eq!(space.get_u32(0), 0x1045_1af4);
    assert_eq!(space.get_u32(COMMAND), 0x0000_0406);
    assert!(space.memory_enabled());
    assert_eq!(space.get_u32(0x3c), 0xff);
    space.write(COMMAND, &[0, 0]);
    assert!(!space.memory_enabled());
}

#[test]
fn bar_answers_sizing_and_moves() {
    let mut space = space();
    space.set_bar0(0xc000_0000, 0x8000);
    assert_eq!(space.bar0(), 0xc000_0000);
    space.write(BAR0, &[0xff; 4]);
    assert_eq!(space.get_u32(BAR0), 0xffff_8000);
    space.write(BAR0, &0xd123_4567_u32.to_le_bytes());
    assert_eq!(space.bar0(), 0xd123_0000);
    space.write(BAR0 + 4, &[0xff; 4]);
    assert_eq!(space.get_u32(BAR0 + 4), 0, "no other BAR");
}

#[test]
fn capabilities_form_a_list() {
    let mut space = space();
    assert_eq!(space.get_u32(STATUS) & 0x10, 0);
    let first = space.add_capability(0x09, &[1, 2, 3], &[]);
    let second = space.add_capability(0x11, &[0, 0, 0, 0], &[0, 0xc0]);
    assert_eq!((first, second), (0x40, 0x48));
    assert_eq!(space.get_u32(STATUS) & 0x10, 0x10);
    assert_eq!(space.get_u32(CAPABILITIES) & 0xff, 0x40);
    assert_eq!(space.get_u32(0x40), 0x0201_4809);
    assert_eq!(space.get_u32(0x48), 0x0000_0011);
    space.write(0x48, &[0xff; 4]);
    assert_eq!(space.get_u32(0x48), 0xc000_0011);
}

#[test]
fn accesses_beyond_the_end_are_harmless() {
    let mut space = space();
    let mut data = [0; 8];
    space.read(0xfc, &mut data);
    assert_eq!(data, [0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);
    space.write(0xfc, &[0; 8]);
    space.write(usize::MAX - 2, &[0]);
    space.put(0xfe, &[1, 2, 3, 4]);
    assert_eq!(space.get_u32(0xfc), 0);
}
