//! A host that has run out of huge pages: what was given up cannot be had again at once.

use std::time::{Duration, Instant};

use devices::testing::{HugePages, wait_for};
use devices::virtio::F_EVENT_IDX;
use devices::virtio::balloon::{BalloonNews, BalloonState, F_MUST_TELL_HOST, F_STATS_VQ, StallReason};
use memory::ram::Ram;

use super::rig::*;

fn told(rig: &Rig<'_>) -> usize {
    let news = rig.news.lock().unwrap();
    let short = |news: &&BalloonNews| matches!(news, BalloonNews::Stalled(stall) if stall.reason == StallReason::HostShort);
    news.iter().filter(short).count()
}

/// Somebody else, who takes all that is free and not promised, until he is dropped.
fn steal_the_rest(pool: &HugePages) -> Ram {
    let thief = huge_ram(2 * (pool.free() - pool.reserved()));
    let pages = u32::try_from(thief.size().bytes() / PAGE).unwrap();
    fill(&thief, (0..pages).step_by(HUGE as usize));
    thief
}

/// The deflate is acknowledged when the page is there, and not before; meanwhile the balloon serves its other queues.
#[test]
fn a_deflate_waits_for_its_page() {
    let pool = HugePages::take(16);
    let ram = huge_ram(16);
    let mut rig = Rig::new(&ram, F_MUST_TELL_HOST | F_STATS_VQ);
    fill(&ram, FIRST..FIRST + 4 * HUGE);
    rig.inflate(FIRST..FIRST + 2 * HUGE);
    assert_eq!(rig.handle.counters().unreserved, 4 * MIB);

    let thief = steal_the_rest(&pool);
    rig.queues[DEFLATE].describe_pfns(0, PFNS, &[FIRST + 5]);
    rig.queues[DEFLATE].offer(0);
    rig.driver().notify(1);
    wait_for("the news", || told(&rig) == 1);
    assert_eq!(rig.handle.report().state, BalloonState::Stalled);
    assert_eq!(rig.handle.report().stall.unwrap().reason, StallReason::HostShort);
    // More work comes, and time passes: retries, but neither an answer nor more news.
    let end = Instant::now() + Duration::from_millis(700);
    let third = FIRST + 2 * HUGE;
    rig.inflate(third..third + 256);
    while Instant::now() < end {
        assert_eq!(rig.queues[DEFLATE].used_index(), 0);
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(told(&rig), 1);

    drop(thief);
    wait_for("the deflate", || rig.queues[DEFLATE].used_index() == 1);
    // The driver hears of it first.
    wait_for("the end of the stall", || rig.handle.report().stall.is_none());
    assert_eq!(rig.handle.counters().unreserved, 2 * MIB);
    fill(&ram, [FIRST + 5]);
    assert_filled(&ram, [FIRST + 5]);
}

/// With EVENT_IDX a driver rings once for what it adds while a deflate waits, and not again for what comes then.
#[test]
fn deflates_that_come_meanwhile_are_not_forgotten() {
    let pool = HugePages::take(16);
    let ram = huge_ram(16);
    let mut rig = Rig::new(&ram, F_MUST_TELL_HOST | F_EVENT_IDX);
    fill(&ram, FIRST..FIRST + 2 * HUGE);
    rig.inflate(FIRST..FIRST + 2 * HUGE);
    let thief = steal_the_rest(&pool);
    for (count, page) in [(1, FIRST), (2, FIRST + HUGE)] {
        let index = count - 1;
        rig.queues[DEFLATE].describe_pfns(index, PFNS + PAGE * u64::from(count), &[page]);
        rig.queues[DEFLATE].offer(index);
        rig.driver().notify(1);
        wait_for("the news", || told(&rig) == 1);
    }
    // Some turns of the worker see the second chain.
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(rig.queues[DEFLATE].used_index(), 0);
    drop(thief);
    wait_for("both deflates", || rig.queues[DEFLATE].used_index() == 2);
}

/// What the balloon itself frees meanwhile serves the deflate that waits.
#[test]
fn an_inflate_helps_a_deflate_that_waits() {
    let pool = HugePages::take(16);
    let ram = huge_ram(16);
    let mut rig = Rig::new(&ram, F_MUST_TELL_HOST);
    fill(&ram, FIRST..FIRST + 4 * HUGE);
    rig.inflate(FIRST..FIRST + HUGE);
    let _thief = steal_the_rest(&pool);
    rig.queues[DEFLATE].describe_pfns(0, PFNS + PAGE, &[FIRST]);
    rig.queues[DEFLATE].offer(0);
    rig.driver().notify(1);
    wait_for("the news", || told(&rig) == 1);
    rig.inflate(FIRST + HUGE..FIRST + 2 * HUGE);
    wait_for("the deflate", || rig.queues[DEFLATE].used_index() == 1);
    assert_filled(&ram, FIRST + 2 * HUGE..FIRST + 4 * HUGE);
}

/// A driver that goes while its deflate waits takes the wait with it.
#[test]
fn a_reset_ends_the_wait() {
    let pool = HugePages::take(16);
    let ram = huge_ram(16);
    let mut rig = Rig::new(&ram, F_MUST_TELL_HOST);
    fill(&ram, FIRST..FIRST + 2 * HUGE);
    rig.inflate(FIRST..FIRST + HUGE);
    let thief = steal_the_rest(&pool);
    rig.queues[DEFLATE].describe_pfns(0, PFNS, &[FIRST]);
    rig.queues[DEFLATE].offer(0);
    rig.driver().notify(1);
    wait_for("the news", || told(&rig) == 1);
    rig.start(F_MUST_TELL_HOST);
    assert_eq!(rig.handle.report().stall, None);
    rig.deflate([FIRST + HUGE]);
    drop(thief);
    fill(&ram, FIRST..FIRST + HUGE);
    assert_filled(&ram, FIRST..FIRST + 2 * HUGE);
}
