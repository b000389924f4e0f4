//! Statistics: the driver's buffer, who asks, what is kept, and what a guest's distress does.

use std::time::Duration;

use super::*;

/// Writes a report into descriptor 0 of the statistics queue.
fn describe(rig: &Rig<'_>, index: u16, list: &[(u16, u64)]) {
    let entry = |(tag, value): &(u16, u64)| [&tag.to_le_bytes()[..], &value.to_le_bytes()].concat();
    let bytes: Vec<u8> = list.iter().flat_map(entry).collect();
    let at = PFNS + PAGE * u64::from(index);
    rig.ram.memory().write_slice(&bytes, GuestAddress(at)).unwrap();
    let length = u32::try_from(bytes.len()).unwrap();
    rig.drivers[STATS].describe(index, Descriptor::readable(at, length));
}

/// Sends a report and takes what comes back meanwhile.
fn send(rig: &mut Rig<'_>, list: &[(u16, u64)]) -> Vec<(u32, u32)> {
    describe(rig, 0, list);
    rig.drivers[STATS].offer(0);
    rig.serve().unwrap();
    rig.drivers[STATS].take_used()
}

/// What the worker does when the device's event rings.
fn wake(rig: &mut Rig<'_>) -> Vec<(u32, u32)> {
    rig.balloon.handle_event();
    rig.serve().unwrap();
    rig.drivers[STATS].take_used()
}

fn updates(rig: &Rig<'_>) -> usize {
    let news = rig.news.lock().unwrap();
    news.iter()
        .filter(|news| **news == BalloonNews::StatsUpdated)
        .count()
}

fn stat(rig: &Rig<'_>, stat: Stat) -> Option<u64> {
    rig.handle.stats().unwrap().get(stat)
}

#[test]
fn the_buffer_is_kept_until_somebody_asks() {
    let ram = anonymous_ram(RAM_MIB);
    let mut rig = Rig::new(&ram, F_STATS_VQ);
    assert!(rig.handle.stats().is_none());
    assert_eq!(send(&mut rig, &[(4, 100), (300, 7)]), []);
    assert_eq!((stat(&rig, Stat::FreeMemory), updates(&rig)), (Some(100), 1));
    assert_eq!(rig.handle.stats().unwrap().unknown(), [(300, 7)]);
    assert_eq!(wake(&mut rig), [], "nobody has asked");

    rig.handle.request_stats();
    assert_eq!(wake(&mut rig), [(0, 0)]);
    rig.handle.request_stats();
    assert_eq!(wake(&mut rig), [], "the driver has it already");
    assert_eq!(send(&mut rig, &[(5, 200)]), []);
    assert_eq!(updates(&rig), 2);
    // Cleared on every report: what the guest did not say again is not known.
    assert_eq!(
        (stat(&rig, Stat::FreeMemory), stat(&rig, Stat::TotalMemory)),
        (None, Some(200))
    );
    assert!(rig.handle.stats().unwrap().unknown().is_empty());
}

/// Every head comes back, whatever is sent unasked; only the last buffer is kept, and it is no news.
#[test]
fn a_second_buffer_gives_the_first_back() {
    let ram = anonymous_ram(RAM_MIB);
    let mut rig = Rig::new(&ram, F_STATS_VQ);
    send(&mut rig, &[(4, 1)]);
    for index in 1..QUEUE_SIZE {
        describe(&rig, index, &[(4, u64::from(index))]);
        rig.drivers[STATS].offer(index);
    }
    rig.serve().unwrap();
    let back: Vec<u32> = rig.drivers[STATS]
        .take_used()
        .iter()
        .map(|(head, _)| *head)
        .collect();
    assert_eq!(back, (0..u32::from(QUEUE_SIZE) - 1).collect::<Vec<_>>());
    assert_eq!((stat(&rig, Stat::FreeMemory), updates(&rig)), (Some(127), 1));
}

/// Lengths up to 4 GiB, buffers that are not RAM, the wrong direction: no statistics, and the buffer is kept.
#[test]
fn bad_buffers_are_no_statistics() {
    let ram = anonymous_ram(RAM_MIB);
    let writable = Descriptor {
        flags: 2,
        ..Descriptor::readable(PFNS, 10)
    };
    let bad = [
        (Descriptor::readable(PFNS, u32::MAX), 1),
        (Descriptor::readable(PFNS, 2561), 1),
        (Descriptor::readable(RAM_MIB * MIB - 5, 10), 0),
        (Descriptor::readable(u64::MAX - 3, 10), 0),
        (writable, 0),
        (Descriptor::readable(PFNS, 10).then(1), 0),
        (Descriptor::readable(PFNS, 10).then(QUEUE_SIZE), 0),
    ];
    for (descriptor, too_long) in bad {
        let mut rig = Rig::new(&ram, F_STATS_VQ);
        send(&mut rig, &[(4, 1)]);
        rig.drivers[STATS].describe(1, descriptor);
        rig.drivers[STATS].offer(1);
        rig.serve().unwrap();
        assert_eq!(rig.drivers[STATS].take_used(), [(0, 0)], "{descriptor:?}");
        assert!(rig.handle.stats().is_none(), "{descriptor:?}");
        assert_eq!(rig.fault("virtio-chain"), 1, "{descriptor:?}");
        let chained = descriptor.flags & 1 != 0;
        assert!(
            chained || rig.fault("balloon-stats") == too_long,
            "{descriptor:?}"
        );
        rig.handle.request_stats();
        assert_eq!(wake(&mut rig), [(1, 0)], "{descriptor:?}");
        assert_eq!(send(&mut rig, &[(4, 9)]), []);
        assert_eq!((stat(&rig, Stat::FreeMemory), updates(&rig)), (Some(9), 2));
    }
}

/// Entries may be split anywhere over descriptors.
#[test]
fn a_report_may_be_in_pieces() {
    let ram = anonymous_ram(RAM_MIB);
    let mut rig = Rig::new(&ram, F_STATS_VQ);
    describe(&rig, 0, &[(4, 0x0102_0304_0506_0708), (5, 9)]);
    for (index, (start, length)) in [(0, 3), (3, 9), (12, 8)].into_iter().enumerate() {
        let index = u16::try_from(index).unwrap();
        let descriptor = Descriptor::readable(PFNS + start, length);
        let next = index + 1;
        let descriptor = if next < 3 {
            descriptor.then(next)
        } else {
            descriptor
        };
        rig.drivers[STATS].describe(index, descriptor);
    }
    rig.drivers[STATS].offer(0);
    rig.serve().unwrap();
    assert_eq!(stat(&rig, Stat::FreeMemory), Some(0x0102_0304_0506_0708));
    assert_eq!(stat(&rig, Stat::TotalMemory), Some(9));
}

#[test]
fn polling_is_changed_live() {
    let ram = anonymous_ram(RAM_MIB);
    let mut rig = Rig::new(&ram, F_STATS_VQ);
    send(&mut rig, &[(4, 1)]);
    assert_eq!(rig.balloon.next_timer(), None);
    rig.handle.set_stats_interval(Duration::from_millis(30));
    assert_eq!(rig.handle.stats_interval(), Duration::from_millis(30));
    for _ in 0..3 {
        let due = rig.balloon.next_timer().unwrap();
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        assert_eq!(wake(&mut rig), [(0, 0)]);
        assert!(rig.balloon.next_timer().unwrap() > due, "the next one lies later");
        send(&mut rig, &[(4, 1)]);
    }
    assert_eq!(updates(&rig), 4);
    // A driver that does not answer is not asked faster.
    std::thread::sleep(Duration::from_millis(30));
    assert_eq!(wake(&mut rig), [(0, 0)]);
    std::thread::sleep(Duration::from_millis(30));
    assert_eq!(wake(&mut rig), []);
    assert!(rig.balloon.next_timer().unwrap() > Instant::now());
    rig.handle.set_stats_interval(Duration::ZERO);
    assert_eq!(rig.balloon.next_timer(), None);
    rig.handle.set_stats_interval(Duration::MAX);
    let _ = rig.balloon.next_timer();
}

#[test]
fn statistics_go_with_their_driver() {
    let ram = anonymous_ram(RAM_MIB);
    let mut rig = Rig::new(&ram, F_STATS_VQ);
    rig.handle.set_stats_interval(Duration::from_millis(1));
    send(&mut rig, &[(4, 1)]);
    rig.balloon.reset();
    assert!(rig.handle.stats().is_none());
    assert_eq!(rig.balloon.next_timer(), None, "nobody is there to be polled");
    // A driver that does not know statistics is not polled, and a wish for them is not kept for the next.
    rig.balloon.activate(0);
    rig.handle.request_stats();
    rig.balloon.handle_event();
    assert_eq!(rig.balloon.next_timer(), None);
    rig.balloon.reset();
    rig.balloon.activate(F_STATS_VQ);
    assert_eq!(send(&mut rig, &[(4, 2)]), []);
}

const KILLS: u16 = Stat::OomKills as u16;

fn anxious() -> BalloonSpec {
    BalloonSpec {
        deflate_on_distress: true,
        min: ByteSize::mib(2),
        ..spec()
    }
}

fn distress(rig: &Rig<'_>) -> Vec<DistressReport> {
    let report = |news: &BalloonNews| match news {
        BalloonNews::Distress(report) => Some(report.clone()),
        BalloonNews::Actual(_) | BalloonNews::Stalled(_) | BalloonNews::StatsUpdated => None,
    };
    rig.news.lock().unwrap().iter().filter_map(report).collect()
}

#[test]
fn a_guest_in_distress_gets_everything_back() {
    let ram = anonymous_ram(RAM_MIB);
    let mut rig = Rig::with(&ram, anxious(), F_STATS_VQ);
    rig.handle.set_target(ByteSize::mib(4)).unwrap();
    rig.balloon.handle_event();
    rig.balloon
        .config_written(&[[0; 4], 768_u32.to_le_bytes(), [0; 4], [0; 4]].concat());
    send(&mut rig, &[(KILLS, 1)]);
    send(&mut rig, &[(KILLS, 1)]);
    assert_eq!((rig.handle.target(), distress(&rig)), (ByteSize::mib(4), vec![]));
    send(&mut rig, &[(KILLS, 3)]);
    assert_eq!(rig.handle.target(), ram.size());
    assert_eq!(rig.balloon.config()[..4], [0; 4], "the driver is told");
    let report = DistressReport {
        signs: vec![("stat-oom-kills", 2)],
        target: ByteSize::mib(4),
        given_back: ByteSize::mib(3),
    };
    assert_eq!(distress(&rig), std::slice::from_ref(&report));
    send(&mut rig, &[(KILLS, 9)]);
    assert_eq!(distress(&rig).len(), 1, "all was on its way already");
    rig.handle.set_target(ByteSize::mib(4)).unwrap();
    send(&mut rig, &[(KILLS, 10)]);
    assert_eq!(distress(&rig).len(), 2);
}

#[test]
fn distress_counts_only_where_it_was_asked_for() {
    let ram = anonymous_ram(RAM_MIB);
    let mut rig = Rig::new(&ram, F_STATS_VQ);
    rig.handle.set_target(ByteSize::mib(4)).unwrap();
    send(&mut rig, &[(KILLS, 0)]);
    send(&mut rig, &[(KILLS, 30)]);
    assert_eq!((rig.handle.target(), distress(&rig)), (ByteSize::mib(4), vec![]));
}
