use proptest::prelude::*;

use crate::testing::FakeVector;

use super::*;

fn msix(count: usize) -> (Msix, Vec<Arc<FakeVector>>) {
    let lines: Vec<Arc<FakeVector>> = (0..count).map(|_| Arc::default()).collect();
    let msix = Msix::new(
        lines
            .iter()
            .map(|line| Arc::clone(line) as Arc<dyn MsiVector>)
            .collect(),
    );
    (msix, lines)
}

fn set(msix: &mut Msix, vector: usize, data: u32, control: u32) {
    msix.write_table(vector * ENTRY_SIZE, &0xfee0_1000_u64.to_le_bytes());
    msix.write_table(vector * ENTRY_SIZE + 8, &data.to_le_bytes());
    msix.write_table(vector * ENTRY_SIZE + 12, &control.to_le_bytes());
}

fn pending(msix: &Msix) -> u64 {
    let mut data = [0; 8];
    msix.read_pending(0, &mut data);
    u64::from_le_bytes(data)
}

fn message(data: u32) -> Option<MsiMessage> {
    Some(MsiMessage {
        address: 0xfee0_1000,
        data,
    })
}

#[test]
fn everything_is_masked_after_reset() {
    let (mut msix, lines) = msix(2);
    let mut entry = [0; 16];
    msix.read_table(16, &mut entry);
    assert_eq!(entry[12..], [1, 0, 0, 0]);
    msix.raise(0);
    assert_eq!(pending(&msix), 0, "MSI-X is off");
    msix.set_control(CONTROL_ENABLE);
    assert!(lines.iter().all(|line| line.route_now().is_none()));
}

#[test]
fn unmasked_vector_fires() {
    let (mut msix, lines) = msix(2);
    msix.set_control(CONTROL_ENABLE);
    set(&mut msix, 1, 0x41, 0);
    assert_eq!(lines[1].route_now(), message(0x41));
    msix.raise(1);
    assert_eq!((lines[0].triggers(), lines[1].triggers()), (0, 1));
}

#[test]
fn masked_vector_waits_in_its_pending_bit() {
    let (mut msix, lines) = msix(3);
    msix.set_control(CONTROL_ENABLE);
    set(&mut msix, 2, 0x42, 0);
    set(&mut msix, 2, 0x42, 1);
    assert_eq!(
        lines[2].route_now(),
        None,
        "the irqfd of a masked vector is removed"
    );
    msix.raise(2);
    msix.raise(2);
    assert_eq!(pending(&msix), 4);
    assert_eq!(lines[2].triggers(), 0);
    set(&mut msix, 2, 0x43, 0);
    assert_eq!(lines[2].route_now(), message(0x43));
    assert_eq!((lines[2].triggers(), pending(&msix)), (1, 0));
}

#[test]
fn function_mask_holds_all_vectors() {
    let (mut msix, lines) = msix(2);
    msix.set_control(CONTROL_ENABLE | CONTROL_MASK_ALL);
    set(&mut msix, 0, 0x40, 0);
    set(&mut msix, 1, 0x41, 1);
    msix.raise(0);
    msix.raise(1);
    assert_eq!(pending(&msix), 3);
    msix.set_control(CONTROL_ENABLE);
    assert_eq!((lines[0].triggers(), lines[1].triggers()), (1, 0));
    assert_eq!(pending(&msix), 2);
}

#[test]
fn switching_off_removes_routes_and_pending_bits() {
    let (mut msix, lines) = msix(2);
    msix.set_control(CONTROL_ENABLE);
    set(&mut msix, 0, 0x40, 0);
    msix.raise(1);
    msix.set_control(0);
    assert_eq!((lines[0].route_now(), pending(&msix)), (None, 0));
    msix.set_control(CONTROL_ENABLE);
    assert_eq!(lines[0].route_now(), message(0x40));
    msix.reset();
    assert_eq!(lines[0].route_now(), None);
    assert_eq!(lines[0].triggers(), 0);
}

/// A change of an unmasked entry is one route, not one for each byte.
#[test]
fn an_entry_is_routed_as_a_whole() {
    let (mut msix, lines) = msix(1);
    msix.set_control(CONTROL_ENABLE);
    let mut entry = [0; 16];
    entry[..8].copy_from_slice(&0xfee0_1000_u64.to_le_bytes());
    entry[8] = 0x55;
    msix.write_table(0, &entry);
    msix.write_table(0, &entry);
    assert_eq!(lines[0].routes(), [message(0x55)]);
}

#[test]
fn vectors_beyond_the_table_do_nothing() {
    let (mut msix, _) = msix(2);
    msix.set_control(CONTROL_ENABLE);
    msix.raise(NO_VECTOR);
    msix.raise(2);
    msix.write_table(2 * ENTRY_SIZE, &[0xff; 8]);
    msix.write_table(usize::MAX - 20, &[0xff; 8]);
    let mut data = [0xaa; 8];
    msix.read_table(2 * ENTRY_SIZE - 4, &mut data);
    assert_eq!(data, [1, 0, 0, 0, 0, 0, 0, 0]);
    msix.read_pending(usize::MAX - 20, &mut data);
    assert_eq!(data, [0; 8]);
}

#[test]
fn a_host_that_refuses_a_route_gets_another_chance() {
    let (mut msix, lines) = msix(1);
    msix.set_control(CONTROL_ENABLE);
    lines[0].set_broken(true);
    set(&mut msix, 0, 0x40, 0);
    msix.raise(0);
    assert_eq!(lines[0].triggers(), 0);
    lines[0].set_broken(false);
    set(&mut msix, 0, 0x40, 0);
    assert_eq!(lines[0].triggers(), 1, "what was raised meanwhile is delivered");
}

#[derive(Clone, Debug)]
enum Op {
    Control(u8),
    Table(usize, Vec<u8>),
    Raise(u16),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        any::<u8>().prop_map(Op::Control),
        (0..80_usize, prop::collection::vec(any::<u8>(), 1..9)).prop_map(|(at, data)| Op::Table(at, data)),
        (0..6_u16).prop_map(Op::Raise),
    ]
}

proptest! {
    /// Whatever a guest does: a vector has a route exactly while it is open, and nothing raised is lost.
    #[test]
    fn routes_follow_the_masks(ops in prop::collection::vec(op(), 1..60)) {
        let (mut msix, lines) = msix(4);
        let mut control = 0;
        for op in ops {
            match op {
                Op::Control(value) => {
                    control = value;
                    msix.set_control(value);
                }
                Op::Table(at, data) => msix.write_table(at, &data),
                Op::Raise(vector) => {
                    let line = lines.get(usize::from(vector));
                    let before = line.map(|line| line.triggers());
                    msix.raise(vector);
                    if let (Some(line), true) = (line, msix.enabled()) {
                        let fired = line.triggers() - before.unwrap();
                        let waits = pending(&msix) >> vector & 1 == 1;
                        prop_assert_eq!((fired == 1, waits), (line.route_now().is_some(), line.route_now().is_none()));
                    }
                }
            }
            let open = control & CONTROL_ENABLE != 0 && control & CONTROL_MASK_ALL == 0;
            for (index, line) in lines.iter().enumerate() {
                let mut entry = [0; 16];
                msix.read_table(index * ENTRY_SIZE, &mut entry);
                prop_assert_eq!(line.route_now().is_some(), open && entry[12] & 1 == 0);
            }
        }
    }
}
