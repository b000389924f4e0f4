use memory::ram::Ram;

use crate::testing::{Descriptor, DriverQueue, anonymous_ram};
use crate::virtio::F_EVENT_IDX;

use super::*;

const BASE: u64 = 0x10_0000;
const SIZE: u16 = 16;

fn ram() -> Ram {
    anonymous_ram(4)
}

fn registers(driver: &DriverQueue<'_>) -> QueueRegisters {
    QueueRegisters {
        max_size: 128,
        size: driver.size,
        enabled: true,
        vector: 0,
        rings: driver.rings(),
    }
}

fn queue(ram: &Ram, driver: &DriverQueue<'_>, features: u64) -> VirtQueue {
    VirtQueue::new(0, &registers(driver), features, ram.memory()).unwrap()
}

/// Takes all chains: head, number of descriptors, broken or not; and returns them.
fn take(queue: &mut VirtQueue, ram: &Ram) -> Result<Vec<(u16, usize, bool)>, QueueError> {
    let mut chains = Vec::new();
    for mut chain in queue.available(ram.memory())? {
        let count = chain.by_ref().count();
        chains.push((chain.head(), count, chain.is_broken()));
    }
    for (head, _, _) in &chains {
        queue.add_used(ram.memory(), *head, 0)?;
    }
    Ok(chains)
}

#[test]
fn chains_come_and_go() {
    let ram = ram();
    let mut driver = DriverQueue::new(&ram, BASE, SIZE);
    let mut queue = queue(&ram, &driver, 0);
    driver.describe(3, Descriptor::readable(0x1000, 4).then(5));
    driver.describe(5, Descriptor::readable(0x2000, 4));
    driver.offer(3);
    driver.offer(5);
    assert_eq!(take(&mut queue, &ram).unwrap(), [(3, 2, false), (5, 1, false)]);
    assert_eq!(driver.take_used(), [(3, 0), (5, 0)]);
    assert_eq!(take(&mut queue, &ram).unwrap(), []);
}

#[test]
fn ring_indices_wrap() {
    let ram = ram();
    let mut driver = DriverQueue::new(&ram, BASE, 4);
    let mut queue = queue(&ram, &driver, 0);
    driver.describe(1, Descriptor::readable(0x1000, 4));
    for _ in 0..70_000 {
        driver.offer(1);
        assert_eq!(take(&mut queue, &ram).unwrap(), [(1, 1, false)]);
    }
    assert_eq!(driver.take_used().len(), usize::from(driver.used_index()));
}

#[test]
fn a_disabled_queue_is_empty() {
    let ram = ram();
    let mut driver = DriverQueue::new(&ram, BASE, SIZE);
    driver.offer(0);
    let off = QueueRegisters {
        enabled: false,
        ..registers(&driver)
    };
    let mut queue = VirtQueue::new(7, &off, 0, ram.memory()).unwrap();
    assert_eq!((queue.index(), queue.size()), (7, 0));
    assert_eq!(take(&mut queue, &ram).unwrap(), []);
    queue.add_used(ram.memory(), 0, 0).unwrap();
    assert_eq!(queue.finish(ram.memory()).unwrap(), Finish::default());
}

#[test]
fn rings_must_lie_in_ram_and_be_aligned() {
    let ram = ram();
    let driver = DriverQueue::new(&ram, BASE, SIZE);
    let good = driver.rings();
    let end = ram.size().bytes();
    let bad = [
        [good[0] + 8, good[1], good[2]],
        [good[0], good[1] + 1, good[2]],
        [good[0], good[1], good[2] + 2],
        [end - 16, good[1], good[2]],
        [good[0], end - 2, good[2]],
        [good[0], good[1], end - 4],
        [0xfee0_0000, good[1], good[2]],
        [good[0], 0xc000_0000, good[2]],
        [good[0], good[1], u64::MAX - 3],
        [u64::MAX - 15, u64::MAX - 1, u64::MAX - 3],
        [good[0], 0, good[2]],
    ];
    for rings in bad {
        let registers = QueueRegisters {
            rings,
            ..registers(&driver)
        };
        let error = VirtQueue::new(2, &registers, 0, ram.memory()).unwrap_err();
        assert!(matches!(error, QueueError::SetUp { queue: 2, .. }), "{rings:x?}");
    }
}

/// More chains than the ring has room for: an error, no loop.
#[test]
fn an_index_that_jumps_is_an_error() {
    for jump in [SIZE + 1, 0x8000, 0xffff] {
        let ram = ram();
        let mut driver = DriverQueue::new(&ram, BASE, SIZE);
        let mut queue = queue(&ram, &driver, 0);
        driver.set_available(jump);
        assert!(matches!(
            take(&mut queue, &ram),
            Err(QueueError::ReadAvailable { .. })
        ));
        assert_eq!(driver.used_index(), 0);
    }
}

#[test]
fn a_full_ring_is_none() {
    let ram = ram();
    let mut driver = DriverQueue::new(&ram, BASE, SIZE);
    let mut queue = queue(&ram, &driver, 0);
    driver.set_available(SIZE);
    assert_eq!(take(&mut queue, &ram).unwrap().len(), usize::from(SIZE));
}

#[test]
fn broken_chains_end_and_are_told_apart() {
    let ram = ram();
    let mut driver = DriverQueue::new(&ram, BASE, SIZE);
    let mut queue = queue(&ram, &driver, 0);
    // A link to itself, a link out of the table, a circle of two, and a whole one.
    driver.describe(0, Descriptor::readable(0x1000, 4).then(0));
    driver.describe(1, Descriptor::readable(0x1000, 4).then(SIZE));
    driver.describe(2, Descriptor::readable(0x1000, 4).then(3));
    driver.describe(3, Descriptor::readable(0x1000, 4).then(2));
    driver.describe(4, Descriptor::readable(0x1000, 4));
    (0..5).for_each(|head| driver.offer(head));
    let all = usize::from(SIZE);
    let expected = [
        (0, all, true),
        (1, 1, true),
        (2, all, true),
        (3, all, true),
        (4, 1, false),
    ];
    assert_eq!(take(&mut queue, &ram).unwrap(), expected);
    assert_eq!(driver.take_used().len(), 5);
}

/// A table of its own is followed, though never offered; one that is broken yields nothing.
#[test]
fn indirect_tables_are_bounded() {
    let ram = ram();
    let mut driver = DriverQueue::new(&ram, BASE, SIZE);
    let mut queue = queue(&ram, &driver, 0);
    let indirect = |length| Descriptor {
        address: 0x8000,
        length,
        flags: 4,
        next: 0,
    };
    driver.describe(0, indirect(15));
    driver.describe(1, indirect(u32::MAX));
    driver.describe(
        2,
        Descriptor {
            address: u64::MAX - 15,
            ..indirect(32)
        },
    );
    (0..3).for_each(|head| driver.offer(head));
    assert_eq!(
        take(&mut queue, &ram).unwrap(),
        [(0, 0, true), (1, 0, true), (2, 0, true)]
    );
}

#[test]
fn a_head_that_is_no_descriptor_cannot_be_returned() {
    let ram = ram();
    let mut driver = DriverQueue::new(&ram, BASE, SIZE);
    let mut queue = queue(&ram, &driver, 0);
    driver.offer(SIZE);
    assert!(matches!(
        take(&mut queue, &ram),
        Err(QueueError::AddUsed { head: SIZE, .. })
    ));
    assert_eq!(take(&mut queue, &ram).unwrap(), [], "taken once, not for ever");
}

#[test]
fn interrupts_come_with_used_buffers() {
    let ram = ram();
    let mut driver = DriverQueue::new(&ram, BASE, SIZE);
    let mut queue = queue(&ram, &driver, 0);
    driver.offer(0);
    take(&mut queue, &ram).unwrap();
    assert_eq!(
        queue.finish(ram.memory()).unwrap(),
        Finish {
            interrupt: true,
            more: false
        }
    );
    assert_eq!(queue.finish(ram.memory()).unwrap(), Finish::default());
}

#[test]
fn event_index_holds_interrupts_back() {
    let ram = ram();
    let mut driver = DriverQueue::new(&ram, BASE, SIZE);
    let mut queue = queue(&ram, &driver, F_EVENT_IDX);
    driver.set_used_event(1);
    for interrupt in [false, true, false] {
        driver.offer(0);
        take(&mut queue, &ram).unwrap();
        assert_eq!(
            queue.finish(ram.memory()).unwrap(),
            Finish {
                interrupt,
                more: false
            }
        );
    }
}

/// What arrives while a queue is served is served next; what a device leaves alone does not keep it awake.
#[test]
fn late_chains_are_news_once() {
    let ram = ram();
    let mut driver = DriverQueue::new(&ram, BASE, SIZE);
    let mut queue = queue(&ram, &driver, F_EVENT_IDX);
    take(&mut queue, &ram).unwrap();
    driver.offer(0);
    assert!(queue.finish(ram.memory()).unwrap().more);
    assert!(!queue.finish(ram.memory()).unwrap().more);
    assert_eq!(take(&mut queue, &ram).unwrap().len(), 1);
    assert!(!queue.finish(ram.memory()).unwrap().more);
}

/// `count` chains from `first` on, each with as many bytes as its number.
fn many(first: u16, count: u16) -> Vec<Used> {
    let used = |index: u16| Used {
        head: index % SIZE,
        length: u32::from(index % SIZE),
    };
    (first..first + count).map(used).collect()
}

#[test]
fn chains_that_belong_together_come_at_once_or_not_at_all() {
    let ram = ram();
    let mut driver = DriverQueue::new(&ram, BASE, SIZE);
    let mut queue = queue(&ram, &driver, 0);
    queue.add_used_together(ram.memory(), &[]).unwrap();
    assert_eq!(queue.finish(ram.memory()).unwrap(), Finish::default());
    // Around the end of the ring.
    for first in [0, 10] {
        queue.add_used_together(ram.memory(), &many(first, 10)).unwrap();
        let expected = many(first, 10).into_iter();
        let expected: Vec<_> = expected.map(|used| (used.head.into(), used.length)).collect();
        assert_eq!(driver.take_used(), expected);
    }
    // The driver would see those before the bad one, were they returned one by one.
    for bad in [3, 9] {
        let mut chains = many(0, 10);
        chains[bad].head = SIZE;
        let result = queue.add_used_together(ram.memory(), &chains);
        assert!(matches!(result, Err(QueueError::AddUsed { head: SIZE, .. })));
        assert_eq!(driver.used_index(), 20);
    }
}

/// A driver that waits for any of the chains is told, wherever among them it is and however the indices wrap.
#[test]
fn interrupts_come_for_each_of_many_chains() {
    let ram = ram();
    let driver = DriverQueue::new(&ram, BASE, SIZE);
    let mut queue = queue(&ram, &driver, F_EVENT_IDX);
    let mut returned = 0_u16;
    for round in 0..u16::MAX {
        let (before, count) = (returned, round % SIZE + 1);
        // One before the first, each of them, and one after the last.
        let place = round / SIZE % (count + 2);
        driver.set_used_event(before.wrapping_add(place).wrapping_sub(1));
        queue.add_used_together(ram.memory(), &many(0, count)).unwrap();
        returned = returned.wrapping_add(count);
        let interrupt = (1..=count).contains(&place);
        let finish = queue.finish(ram.memory()).unwrap();
        assert_eq!(finish.interrupt, interrupt, "{place} of {count} after {before}");
    }
}
