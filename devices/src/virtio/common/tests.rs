use proptest::prelude::*;

use super::*;

fn common() -> Common {
    Common::new(0b101, &[128, 16], 3)
}

fn get(common: &Common, offset: usize, width: usize) -> u64 {
    let mut data = [0; 8];
    common.read(offset, 9, &mut data[..width]);
    u64::from_le_bytes(data)
}

fn put(common: &mut Common, offset: usize, width: usize, value: u64) -> Effect {
    common.write(offset, &value.to_le_bytes()[..width])
}

/// Goes to FEATURES_OK with VERSION_1 and `features`.
fn negotiate(common: &mut Common, features: u64) -> Effect {
    put(common, STATUS, 1, 1);
    put(common, STATUS, 1, 3);
    put(common, DRIVER_FEATURE_SELECT, 4, 0);
    put(common, DRIVER_FEATURE, 4, features & 0xffff_ffff);
    put(common, DRIVER_FEATURE_SELECT, 4, 1);
    put(common, DRIVER_FEATURE, 4, (features | F_VERSION_1) >> 32);
    put(common, STATUS, 1, 11)
}

#[test]
fn features_show_by_halves() {
    let mut common = common();
    assert_eq!(get(&common, DEVICE_FEATURE, 4), 0b101 | F_EVENT_IDX);
    put(&mut common, DEVICE_FEATURE_SELECT, 4, 1);
    assert_eq!(get(&common, DEVICE_FEATURE, 4), 1);
    for select in [2, 3, 0xffff_ffff] {
        put(&mut common, DEVICE_FEATURE_SELECT, 4, select);
        assert_eq!(get(&common, DEVICE_FEATURE, 4), 0);
        put(&mut common, DRIVER_FEATURE_SELECT, 4, select);
        assert_eq!(put(&mut common, DRIVER_FEATURE, 4, 1), Effect::Refused);
        assert_eq!(put(&mut common, DRIVER_FEATURE, 4, 0), Effect::None);
    }
    assert_eq!(common.features(), 0);
}

/// Bits 40 (RING_RESET), 34 (packed ring), 33 (platform addresses), 28 (indirect) are not served, so not offered.
#[test]
fn only_what_is_served_is_offered() {
    assert_eq!(common().offered, 0b101 | 1 << 29 | 1 << 32);
}

#[test]
fn features_are_judged_once() {
    let mut common = common();
    assert_eq!(negotiate(&mut common, 0b100), Effect::None);
    assert_eq!((common.status(), common.features()), (11, 0b100 | F_VERSION_1));
    assert_eq!(put(&mut common, DRIVER_FEATURE, 4, 0), Effect::Refused);
    assert_eq!(common.features(), 0b100 | F_VERSION_1);
}

#[test]
fn bad_features_do_not_stay() {
    for features in [0b1000, 1 << 40, 1 << 63] {
        let mut common = common();
        assert_eq!(negotiate(&mut common, features), Effect::BadFeatures);
        assert_eq!(common.status(), 3);
    }
    let mut common = common();
    put(&mut common, STATUS, 1, 1);
    put(&mut common, STATUS, 1, 3);
    assert_eq!(
        put(&mut common, STATUS, 1, 11),
        Effect::BadFeatures,
        "VERSION_1 is required"
    );
}

#[test]
fn queues_are_described_one_at_a_time() {
    let mut common = common();
    negotiate(&mut common, 0);
    put(&mut common, QUEUE_SELECT, 2, 1);
    assert_eq!(get(&common, QUEUE_SIZE, 2), 16);
    assert_eq!(get(&common, QUEUE_NOTIFY_OFF, 2), 1);
    assert_eq!(get(&common, QUEUE_VECTOR, 2), 0xffff);
    assert_eq!(put(&mut common, QUEUE_SIZE, 2, 8), Effect::None);
    assert_eq!(put(&mut common, QUEUE_DESC, 4, 0x2000_1000), Effect::None);
    assert_eq!(put(&mut common, QUEUE_DESC + 4, 4, 1), Effect::None);
    assert_eq!(put(&mut common, QUEUE_DEVICE, 8, 0x1_0000_3000), Effect::None);
    assert_eq!(put(&mut common, QUEUE_VECTOR, 2, 2), Effect::None);
    assert_eq!(put(&mut common, QUEUE_ENABLE, 2, 1), Effect::None);
    let queue = &common.queues()[1];
    assert_eq!(queue.rings, [0x1_2000_1000, 0, 0x1_0000_3000]);
    assert_eq!((queue.size, queue.enabled, queue.vector), (8, true, 2));
    assert_eq!(get(&common, QUEUE_DESC, 8), 0x1_2000_1000);
    assert_eq!(common.queues()[0], QueueRegisters::new(128));
}

#[test]
fn queue_sizes_are_powers_of_two_up_to_the_maximum() {
    let mut common = common();
    negotiate(&mut common, 0);
    for size in [0, 3, 12, 129, 256, 0x8000, 0xffff] {
        assert_eq!(put(&mut common, QUEUE_SIZE, 2, size), Effect::Refused);
        assert_eq!(get(&common, QUEUE_SIZE, 2), 128);
    }
}

#[test]
fn vectors_beyond_the_table_read_back_as_none() {
    let mut common = common();
    for (asked, got) in [(0, 0), (2, 2), (3, 0xffff), (0x7ff, 0xffff), (0xffff, 0xffff)] {
        put(&mut common, CONFIG_VECTOR, 2, asked);
        assert_eq!(get(&common, CONFIG_VECTOR, 2), got);
        put(&mut common, QUEUE_VECTOR, 2, asked);
        assert_eq!(get(&common, QUEUE_VECTOR, 2), got);
    }
}

#[test]
fn selecting_a_queue_that_is_not_there_is_safe() {
    let mut common = common();
    negotiate(&mut common, 0);
    for select in [2, 3, 0x7fff, 0xffff] {
        put(&mut common, QUEUE_SELECT, 2, select);
        assert_eq!(get(&common, QUEUE_SIZE, 2), 0);
        for (offset, width) in [
            (QUEUE_SIZE, 2),
            (QUEUE_VECTOR, 2),
            (QUEUE_ENABLE, 2),
            (QUEUE_DESC, 8),
        ] {
            assert_eq!(put(&mut common, offset, width, 1), Effect::Refused);
        }
    }
}

/// The class of CVE-2026-5747: a queue that changes under a device that has checked it.
#[test]
fn queue_registers_are_inert_after_driver_ok() {
    let mut common = common();
    negotiate(&mut common, 0);
    put(&mut common, QUEUE_DESC, 8, 0x1000);
    put(&mut common, QUEUE_ENABLE, 2, 1);
    assert_eq!(put(&mut common, STATUS, 1, 15), Effect::Start);
    let before = common.queues().to_vec();
    for select in 0..3 {
        put(&mut common, QUEUE_SELECT, 2, select);
        for offset in (QUEUE_SIZE..QUEUE_VECTOR).chain(QUEUE_ENABLE..COMMON_SIZE) {
            for width in [1, 2, 4, 8] {
                assert_eq!(
                    put(&mut common, offset, width, 0x0808_0808_0808_0808),
                    Effect::Refused
                );
            }
        }
    }
    assert_eq!(common.queues(), before);
    // These are not inert.
    assert_eq!(put(&mut common, QUEUE_SELECT, 2, 0), Effect::None);
    assert_eq!(put(&mut common, QUEUE_VECTOR, 2, 1), Effect::None);
    assert_eq!(put(&mut common, CONFIG_VECTOR, 2, 1), Effect::None);
}

#[test]
fn an_enabled_queue_stays_as_it_is() {
    let mut common = common();
    negotiate(&mut common, 0);
    put(&mut common, QUEUE_ENABLE, 2, 1);
    for (offset, value) in [(QUEUE_ENABLE, 0), (QUEUE_ENABLE, 1), (QUEUE_SIZE, 8)] {
        assert_eq!(put(&mut common, offset, 2, value), Effect::Refused);
    }
    assert_eq!(put(&mut common, QUEUE_DRIVER, 8, 0x5000), Effect::Refused);
}

#[test]
fn reset_shows_only_when_it_is_done() {
    let mut common = common();
    negotiate(&mut common, 0);
    put(&mut common, STATUS, 1, 15);
    assert_eq!(put(&mut common, STATUS, 1, 0), Effect::Reset);
    assert_eq!(common.status(), 15, "the worker still has the rings");
    assert_eq!(put(&mut common, STATUS, 1, 1), Effect::Refused);
    assert_eq!(put(&mut common, CONFIG_VECTOR, 2, 1), Effect::Refused);
    common.finish_reset();
    assert_eq!(get(&common, 0, 8), 0b101 << 32 | F_EVENT_IDX << 32);
    assert_eq!(
        (common.status(), common.features(), common.config_vector()),
        (0, 0, NO_VECTOR)
    );
    assert_eq!(
        put(&mut common, STATUS, 1, 0),
        Effect::None,
        "nothing to wait for"
    );
}

#[test]
fn needs_reset_is_told_once_and_only_to_a_driver_that_is_ready() {
    let mut common = common();
    assert!(!common.set_needs_reset());
    assert_eq!(common.status(), 0);
    negotiate(&mut common, 0);
    put(&mut common, STATUS, 1, 15);
    assert!(common.set_needs_reset());
    assert!(!common.set_needs_reset());
    assert_eq!(common.status(), 0x4f);
    assert_eq!(put(&mut common, STATUS, 1, 15), Effect::None);
    assert_eq!(common.status(), 0x4f);
    assert_eq!(put(&mut common, STATUS, 1, 0), Effect::Reset);
}

#[test]
fn a_driver_cannot_set_needs_reset() {
    let mut common = common();
    put(&mut common, STATUS, 1, 0x41);
    assert_eq!(common.status(), 1);
    put(&mut common, STATUS, 1, 3);
    assert_eq!(put(&mut common, STATUS, 1, 0x4b), Effect::BadFeatures);
}

#[test]
fn registers_read_in_any_width() {
    let common = common();
    for offset in 0..COMMON_SIZE + 16 {
        for width in [1, 2, 4, 8] {
            let whole: Vec<u64> = (0..width).map(|at| get(&common, offset + at, 1)).collect();
            let bytes = get(&common, offset, width).to_le_bytes();
            assert!(
                bytes
                    .iter()
                    .map(|byte| u64::from(*byte))
                    .zip(whole)
                    .all(|(a, b)| a == b)
            );
        }
    }
    assert_eq!(get(&common, NUM_QUEUES, 2), 2);
    assert_eq!(get(&common, GENERATION, 1), 9);
}

proptest! {
    /// Any writes at all: no panic, sizes stay usable, and nothing of a queue changes from DRIVER_OK to the reset.
    #[test]
    fn any_writes_keep_the_rules(
        writes in prop::collection::vec((0..0x48_usize, prop::sample::select(vec![1_usize, 2, 4, 8]), prop_oneof![
            Just(0), Just(1), Just(3), Just(11), Just(15), Just(0x8080), any::<u64>(),
        ]), 1..200)
    ) {
        let mut common = common();
        negotiate(&mut common, 0);
        for (offset, width, value) in writes {
            let (live, before) = (common.driver_ok(), common.queues().to_vec());
            let effect = put(&mut common, offset, width, value);
            if effect == Effect::Reset {
                common.finish_reset();
            } else if live {
                for (old, new) in before.iter().zip(common.queues()) {
                    prop_assert_eq!((old.size, old.enabled, old.rings), (new.size, new.enabled, new.rings));
                }
            }
            for queue in common.queues() {
                prop_assert!(queue.size.is_power_of_two() && queue.size <= queue.max_size);
                prop_assert!(queue.vector < 3 || queue.vector == NO_VECTOR);
            }
            prop_assert!(common.status() & status::FEATURES_OK == 0 || common.features() & F_VERSION_1 != 0);
        }
    }
}
