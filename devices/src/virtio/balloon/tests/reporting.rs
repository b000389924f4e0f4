//! Free page reporting, page poison, inhibitors, and which queue is which.

use super::*;

const POISON: u32 = 0xaaaa_aaaa;

/// What the driver writes into its configuration.
fn poisons(rig: &mut Rig<'_>, value: u32) {
    let config = [[0; 4], [0; 4], [0; 4], value.to_le_bytes()].concat();
    rig.balloon.config_written(&config);
}

fn report(rig: &mut Rig<'_>, descriptors: &[Descriptor]) {
    let last = descriptors.len() - 1;
    for (index, descriptor) in descriptors.iter().enumerate() {
        let number = u16::try_from(index).unwrap();
        let descriptor = if index < last {
            descriptor.then(number + 1)
        } else {
            *descriptor
        };
        rig.drivers[REPORTING].describe(number, descriptor);
    }
    rig.drivers[REPORTING].offer(0);
    rig.serve().unwrap();
    assert_eq!(rig.drivers[REPORTING].take_used(), [(0, 0)]);
}

fn byte(ram: &Ram, pfn: u32) -> u8 {
    ram.memory()
        .read_obj(GuestAddress(u64::from(pfn) * PAGE))
        .unwrap()
}

fn fill(ram: &Ram, pfns: std::ops::Range<u32>) {
    for pfn in pfns {
        let at = GuestAddress(u64::from(pfn) * PAGE);
        ram.memory().write_slice(&[0xaa; 4096], at).unwrap();
    }
}

/// The buffers themselves are the free pages: 32 of them, as Linux sends them.
#[test]
fn reported_pages_are_released() {
    let ram = anonymous_ram(RAM_MIB);
    let mut rig = Rig::new(&ram, F_PAGE_REPORTING);
    fill(&ram, FREE..FREE + 256);
    let blocks: Vec<Descriptor> = (0..32).map(|block| writable(FREE + 8 * block, 4)).collect();
    report(&mut rig, &blocks);
    let counters = rig.handle.counters();
    assert_eq!(
        (counters.reported, counters.discarded, counters.partial),
        (128 * PAGE, 0, 0)
    );
    assert_eq!(rig.handle.by_backend()[0].reported, 128 * PAGE);
    for page in 0..256 {
        let gone = page % 8 < 4;
        assert_eq!(byte(&ram, FREE + page), if gone { 0 } else { 0xaa }, "{page}");
    }
}

/// Ends inside pages, ends outside RAM, in the hole, overlaps: rounded inward, clamped, counted.
#[test]
fn reported_ranges_are_clamped_and_rounded() {
    let ram = anonymous_ram(RAM_MIB);
    let mut rig = Rig::new(&ram, F_PAGE_REPORTING);
    let end = u32::try_from(RAM_MIB * MIB / PAGE).unwrap();
    fill(&ram, end - 8..end);
    let odd = |address: u64, length: u32| Descriptor {
        flags: 2,
        ..Descriptor::readable(address, length)
    };
    let top = RAM_MIB * MIB;
    report(
        &mut rig,
        &[
            odd(top - 3 * PAGE - 1, 4096 + 2),
            odd(top - PAGE, 1 << 20),
            odd(top, 4096),
            odd(u64::MAX - 10, 4096),
            odd(top - 8 * PAGE, 0),
        ],
    );
    let counters = rig.handle.counters();
    assert_eq!((counters.reported, counters.rounded), (2 * PAGE, 2));
    assert_eq!(rig.fault("balloon-outside"), 1);
    let kept: Vec<bool> = (end - 8..end).map(|page| byte(&ram, page) == 0xaa).collect();
    assert_eq!(kept, [true, true, true, true, true, false, true, false]);
}

#[test]
fn only_writable_buffers_report() {
    let ram = anonymous_ram(RAM_MIB);
    let mut rig = Rig::new(&ram, F_PAGE_REPORTING);
    fill(&ram, FREE..FREE + 2);
    let readable = Descriptor::readable(u64::from(FREE) * PAGE, 4096);
    report(&mut rig, &[readable, writable(FREE + 1, 1)]);
    assert_eq!((byte(&ram, FREE), byte(&ram, FREE + 1)), (0xaa, 0));
    assert_eq!(
        (rig.fault("virtio-chain"), rig.handle.counters().reported),
        (1, PAGE)
    );
}

/// Lengths are 32 bits wide: 128 of them are 512 GiB, and a kick takes one.
#[test]
fn a_kick_reports_no_more_than_a_gibibyte() {
    let ram = anonymous_ram(RAM_MIB);
    let mut rig = Rig::new(&ram, F_PAGE_REPORTING);
    let all = Descriptor {
        flags: 2,
        ..Descriptor::readable(0x10_0000, u32::MAX)
    };
    let most = Descriptor {
        flags: 2,
        ..Descriptor::readable(0x10_0000, 1 << 30)
    };
    // As many chains: one of them may not be longer than 4 GiB either.
    for (index, descriptor) in (0..).zip([all, most, writable(FREE, 1)]) {
        rig.drivers[REPORTING].describe(index, descriptor);
        rig.drivers[REPORTING].offer(index);
    }
    rig.serve().unwrap();
    assert_eq!(rig.drivers[REPORTING].take_used(), [(0, 0), (1, 0), (2, 0)]);
    assert_eq!(rig.fault("balloon-report"), 2);
    assert_eq!(rig.handle.counters().reported, (RAM_MIB - 1) * MIB);
}

/// With a poison the guest expects to find it: acknowledged, not released. Without the feature the value is nothing.
#[test]
fn poisoned_pages_stay() {
    let ram = anonymous_ram(RAM_MIB);
    let mut rig = Rig::new(&ram, F_PAGE_REPORTING | F_PAGE_POISON);
    fill(&ram, FREE..FREE + 4);
    poisons(&mut rig, POISON);
    assert_eq!(rig.handle.report().poison_val, Some(POISON));
    report(&mut rig, &[writable(FREE, 4)]);
    let counters = rig.handle.counters();
    assert_eq!((counters.reported, counters.poisoned), (0, 4 * PAGE));
    assert_eq!(byte(&ram, FREE), 0xaa);
    poisons(&mut rig, 0);
    report(&mut rig, &[writable(FREE, 1)]);
    assert_eq!((byte(&ram, FREE), byte(&ram, FREE + 1)), (0, 0xaa));
    poisons(&mut rig, POISON);
    rig.send(INFLATE, &[FREE + 1]);
    assert_eq!(rig.discarded(), PAGE, "what is in the balloon has no contents");
    rig.balloon.reset();
    assert_eq!(rig.balloon.config()[4..], [0; 12]);

    let mut rig = Rig::new(&ram, F_PAGE_REPORTING);
    poisons(&mut rig, POISON);
    report(&mut rig, &[writable(FREE + 2, 1)]);
    assert_eq!((rig.handle.report().poison_val, byte(&ram, FREE + 2)), (None, 0));
}

#[test]
fn an_inhibitor_keeps_everything() {
    let ram = anonymous_ram(RAM_MIB);
    let mut rig = Rig::new(&ram, F_PAGE_REPORTING);
    fill(&ram, FREE..FREE + 4);
    let guard = rig.handle.inhibit("a device has pinned it");
    rig.send(INFLATE, &[FREE]);
    report(&mut rig, &[writable(FREE + 1, 1)]);
    let counters = rig.handle.counters();
    assert_eq!(
        (counters.discarded, counters.reported, counters.inhibited),
        (0, 0, 2 * PAGE)
    );
    assert_eq!((byte(&ram, FREE), byte(&ram, FREE + 1)), (0xaa, 0xaa));
    drop(guard);
    rig.send(INFLATE, &[FREE + 2]);
    report(&mut rig, &[writable(FREE + 3, 1)]);
    assert_eq!((byte(&ram, FREE + 2), byte(&ram, FREE + 3)), (0, 0));
}

/// Every subset of what a balloon over large pages serves: each queue is where the features put it, and works there.
#[test]
fn every_subset_of_features_has_its_queues() {
    let ram = anonymous_ram(RAM_MIB);
    let served = [
        F_MUST_TELL_HOST,
        F_STATS_VQ,
        F_DEFLATE_ON_OOM,
        F_PAGE_POISON,
        F_PAGE_REPORTING,
    ];
    for subset in 0..1_u32 << served.len() {
        let chosen = served
            .iter()
            .enumerate()
            .filter(|(bit, _)| subset >> bit & 1 != 0);
        let features = chosen.fold(0, |features, (_, feature)| features | feature);
        let mut rig = Rig::new(&ram, features);
        let expected = 2 + [F_STATS_VQ, F_PAGE_REPORTING]
            .iter()
            .filter(|bit| features & *bit != 0)
            .count();
        assert_eq!(rig.queues.len(), expected);
        rig.send(INFLATE, &[FREE]);
        rig.send(DEFLATE, &[FREE]);
        assert_eq!(rig.discarded(), PAGE, "{features:#x}");
        if features & F_PAGE_REPORTING != 0 {
            report(&mut rig, &[writable(FREE, 2)]);
        }
        let reported = if features & F_PAGE_REPORTING != 0 {
            2 * PAGE
        } else {
            0
        };
        assert_eq!(rig.handle.counters().reported, reported, "{features:#x}");
        if features & F_STATS_VQ != 0 {
            rig.ram
                .memory()
                .write_slice(&[4, 0, 5, 0, 0, 0, 0, 0, 0, 0], GuestAddress(PFNS))
                .unwrap();
            rig.drivers[STATS].describe(0, Descriptor::readable(PFNS, 10));
            rig.drivers[STATS].offer(0);
            rig.serve().unwrap();
        }
        let free = rig.handle.stats().and_then(|stats| stats.get(Stat::FreeMemory));
        assert_eq!(free, (features & F_STATS_VQ != 0).then_some(5), "{features:#x}");
        assert_eq!(rig.faults.counts().iter().map(|(_, count)| count).sum::<u64>(), 0);
    }
}
