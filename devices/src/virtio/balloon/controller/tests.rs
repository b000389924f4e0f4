use proptest::prelude::*;

use super::*;

const MIB: u64 = 1 << 20;
const RAM: u64 = 512 * MIB;

/// A controller with a clock of its own.
struct Bench {
    now: Instant,
    controller: Controller,
}

impl Bench {
    fn new() -> Bench {
        let now = Instant::now();
        let mut controller = Controller::new(now, RAM);
        controller.set_driver(now, true);
        Bench { now, controller }
    }

    fn pass(&mut self, millis: u64) -> &mut Bench {
        self.now += Duration::from_millis(millis);
        self
    }

    fn target(&mut self, mib: u64) -> &mut Bench {
        self.controller.set_target(self.now, mib * MIB);
        self
    }

    fn claim(&mut self, mib: u64) -> &mut Bench {
        self.controller.claim(self.now, mib * MIB);
        self
    }

    fn state(&self) -> BalloonState {
        self.controller.state(self.now)
    }

    fn check(&mut self) -> Option<StallReport> {
        self.controller.check(self.now, &Evidence::default())
    }

    fn reason(&self, evidence: Evidence) -> StallReason {
        self.controller.stall(self.now, &evidence).unwrap().reason
    }
}

#[test]
fn states_follow_target_and_claim() {
    let mut bench = Bench::new();
    assert_eq!(bench.state(), BalloonState::Idle);
    bench.target(256);
    assert_eq!(bench.state(), BalloonState::Inflating);
    bench.pass(1000).claim(100);
    assert_eq!(bench.state(), BalloonState::Inflating);
    bench.pass(1000).claim(256);
    assert_eq!(bench.state(), BalloonState::Converged);
    bench.target(512);
    assert_eq!(bench.state(), BalloonState::Deflating);
    bench.claim(0);
    assert_eq!(bench.state(), BalloonState::Idle);
    bench.controller.set_driver(bench.now, false);
    assert_eq!(bench.state(), BalloonState::NoDriver);
    assert_eq!(bench.check(), None, "nothing is asked of it");
}

/// No progress is a stall, told once; progress ends it, and another one is told again.
#[test]
fn a_stall_is_told_once() {
    let mut bench = Bench::new();
    bench.target(256).pass(500).claim(10);
    assert_eq!(bench.controller.next_check(), Some(bench.now + PATIENCE));
    bench.pass(4999);
    assert_eq!((bench.state(), bench.check()), (BalloonState::Inflating, None));
    bench.pass(1);
    assert_eq!(bench.state(), BalloonState::Stalled);
    let told = bench.check().unwrap();
    assert_eq!((told.since, told.reason), (PATIENCE, StallReason::Silent));
    assert_eq!((told.target.bytes(), told.actual.bytes()), (256 * MIB, 502 * MIB));
    assert_eq!((bench.check(), bench.controller.next_check()), (None, None));
    bench.claim(11);
    assert_eq!(bench.state(), BalloonState::Inflating);
    bench.pass(5000);
    assert!(bench.check().is_some());
    bench.target(500);
    assert_eq!(
        bench.state(),
        BalloonState::Inflating,
        "a new target is a new start"
    );
}

/// Giving and taking the same pages again and again is no progress.
#[test]
fn going_back_and_forth_is_a_stall() {
    let mut bench = Bench::new();
    bench.target(256).claim(100);
    for _ in 0..10 {
        bench.pass(250).claim(99).pass(250).claim(100);
    }
    assert_eq!(bench.state(), BalloonState::Stalled);
    let may = Evidence {
        deflate_on_oom: true,
        ..Evidence::default()
    };
    assert_eq!(bench.reason(may), StallReason::TakenBack);
    assert_eq!(
        bench.reason(Evidence::default()),
        StallReason::Silent,
        "it may not"
    );
}

/// Linux deflates by a mebibyte when it is out of memory and does not inflate again by itself.
#[test]
fn leaving_the_target_is_noticed() {
    let mut bench = Bench::new();
    bench.target(256).claim(256).pass(60_000).claim(255);
    assert_eq!(bench.state(), BalloonState::Inflating);
    bench.pass(5000);
    let may = Evidence {
        deflate_on_oom: true,
        ..Evidence::default()
    };
    assert_eq!(
        (bench.state(), bench.reason(may)),
        (BalloonState::Stalled, StallReason::TakenBack)
    );
}

#[test]
fn reasons_are_guessed_from_what_is_known() {
    let mut bench = Bench::new();
    bench.target(256).claim(100).pass(5000);
    let with = |available| Evidence {
        available: Some(available),
        ..Evidence::default()
    };
    let short = StallReason::GuestShort {
        free: ByteSize::mib(3),
    };
    assert_eq!(bench.reason(with(3 * MIB)), short);
    assert_eq!(bench.reason(with(300 * MIB)), StallReason::Silent);
    assert_eq!(bench.reason(with(u64::MAX)), StallReason::Silent);
    bench.target(512).pass(5000);
    assert_eq!(
        bench.reason(with(3 * MIB)),
        StallReason::Silent,
        "it has memory to gain"
    );
    bench.controller.set_driver(bench.now, false);
    bench.pass(29_999);
    assert_eq!(bench.check(), None, "the guest may be booting");
    bench.pass(1);
    assert_eq!(bench.check().unwrap().reason, StallReason::NoDriver);
    assert_eq!(bench.state(), BalloonState::NoDriver);
}

/// Told at once, whatever the target is, and again when it happens again.
#[test]
fn a_host_without_pages_is_a_stall() {
    let mut bench = Bench::new();
    bench.target(256).claim(256);
    for _ in 0..2 {
        bench.controller.set_host_short(bench.now, true);
        assert_eq!(bench.controller.next_check(), Some(bench.now));
        assert_eq!(bench.check().unwrap().reason, StallReason::HostShort);
        assert_eq!((bench.state(), bench.check()), (BalloonState::Stalled, None));
        bench.pass(100);
        bench.controller.set_host_short(bench.now, true);
        assert_eq!(bench.check(), None);
        bench.controller.set_host_short(bench.now, false);
        assert_eq!((bench.state(), bench.check()), (BalloonState::Converged, None));
    }
}

#[test]
fn no_time_passes_for_a_stopped_guest() {
    let mut bench = Bench::new();
    bench.target(256).claim(100).pass(3000);
    bench.controller.set_running(bench.now, false);
    assert_eq!(bench.controller.next_check(), None);
    bench.pass(60_000);
    assert_eq!((bench.state(), bench.check()), (BalloonState::Inflating, None));
    bench.controller.set_running(bench.now, true);
    bench.pass(1999);
    assert_eq!(bench.state(), BalloonState::Inflating);
    bench.pass(1);
    assert_eq!(bench.state(), BalloonState::Stalled);
}

#[test]
fn rate_and_eta_follow_the_last_seconds() {
    let mut bench = Bench::new();
    bench.pass(60_000).target(256);
    assert_eq!(
        (bench.controller.rate(bench.now), bench.controller.eta(bench.now)),
        (0, None)
    );
    for step in 1..=20 {
        bench.pass(100).claim(10 * step);
    }
    let rate = bench.controller.rate(bench.now);
    let wanted = -100 * i64::try_from(MIB).unwrap();
    assert!((wanted * 11 / 10..wanted * 9 / 10).contains(&rate), "{rate}");
    let eta = bench.controller.eta(bench.now).unwrap();
    assert!((450..650).contains(&eta.as_millis()), "{eta:?}");
    bench.pass(2001);
    assert_eq!(
        (bench.controller.rate(bench.now), bench.controller.eta(bench.now)),
        (0, None)
    );
    bench.target(500).claim(190);
    assert!(bench.controller.rate(bench.now) > 0, "it takes memory back");
    assert!(bench.controller.eta(bench.now).is_some());
}

#[test]
fn a_register_of_32_bits_is_as_far_as_it_goes() {
    let now = Instant::now();
    let mut controller = Controller::new(now, 1 << 50);
    controller.set_target(now, 1);
    assert_eq!(controller.pages_wanted(), u32::MAX);
    controller.set_driver(now, true);
    controller.claim(now, u64::from(u32::MAX) * PAGE);
    assert_eq!(controller.state(now), BalloonState::Converged);
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Target(u64),
    Claim(u64),
    Driver(bool),
    Running(bool),
    HostShort(bool),
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => any::<u64>().prop_map(Step::Target),
        2 => (0..=RAM).prop_map(Step::Target),
        4 => any::<u64>().prop_map(Step::Claim),
        8 => (0..=RAM / PAGE).prop_map(|page| Step::Claim(page * PAGE)),
        1 => any::<bool>().prop_map(Step::Driver),
        1 => any::<bool>().prop_map(Step::Running),
        1 => any::<bool>().prop_map(Step::HostShort),
        8 => prop_oneof![0..100_u64, 0..20_000_u64].prop_map(Step::Pass),
    ]
}

proptest! {
    /// Whatever is claimed and asked: figures stay in RAM, states mean what they say, a stall is told when it is due
    /// and never twice.
    #[test]
    fn figures_and_states_agree(steps in prop::collection::vec(step(), 1..80)) {
        let mut bench = Bench::new();
        let mut told = false;
        for step in steps {
            let distance = bench.controller.distance();
            match step {
                Step::Target(bytes) => {
                    bench.controller.set_target(bench.now, bytes);
                    told = false;
                }
                Step::Claim(bytes) => {
                    bench.controller.claim(bench.now, bytes);
                    told &= bench.controller.distance() >= distance;
                }
                Step::Driver(there) => {
                    bench.controller.set_driver(bench.now, there);
                    told = false;
                }
                Step::Running(running) => bench.controller.set_running(bench.now, running),
                Step::HostShort(short) => {
                    let short = short && bench.controller.driver();
                    bench.controller.set_host_short(bench.now, short);
                    told = false;
                }
                Step::Pass(millis) => { bench.pass(millis); }
            }
            let (controller, now) = (&bench.controller, bench.now);
            prop_assert!(controller.target() <= RAM && controller.claimed() <= RAM);
            prop_assert_eq!(controller.actual() + controller.claimed(), RAM);
            let settled = matches!(bench.state(), BalloonState::Idle | BalloonState::Converged);
            prop_assert_eq!(settled, controller.driver() && !controller.host_short && controller.distance() == 0);
            prop_assert_eq!(bench.state() == BalloonState::Idle, settled && controller.claimed() == 0);
            if let Some(eta) = controller.eta(now) {
                prop_assert!(controller.rate(now) != 0 && eta <= Duration::from_millis(u64::MAX));
            }
            let due = controller.next_check().is_some_and(|due| due <= now);
            let stall = bench.check();
            prop_assert_eq!(stall.is_some(), due, "told when it is due");
            if stall.is_some() {
                prop_assert!(!told, "told twice");
                told = true;
            }
            if controller_is_settled(&bench) {
                told = false;
            }
        }
    }
}

fn controller_is_settled(bench: &Bench) -> bool {
    bench.controller.distance() == 0
}
