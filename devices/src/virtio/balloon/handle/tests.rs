use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::super::BalloonSpec;
use super::super::report::{BalloonState, ReportingState};
use super::super::spec::Reporting;
use super::*;

use crate::testing::anonymous_ram;

const RAM: ByteSize = ByteSize::mib(512);

fn made(spec: &BalloonSpec) -> Result<BalloonHandle, BalloonError> {
    let event = EventFd::new(EFD_NONBLOCK).unwrap();
    let ram = anonymous_ram(512);
    Shared::new(spec.clone(), &ram, 0x3f, event).map(|shared| BalloonHandle::new(Arc::new(shared)))
}

fn handle() -> BalloonHandle {
    made(&BalloonSpec::new("balloon0")).unwrap()
}

#[test]
fn target_is_clamped_to_ram_and_never_zero() {
    let handle = handle();
    assert_eq!((handle.target(), handle.floor()), (RAM, ByteSize::ZERO));
    handle.set_target(ByteSize::mib(666)).unwrap();
    assert_eq!(handle.target(), RAM);
    handle.set_target(ByteSize::mib(256)).unwrap();
    assert_eq!(handle.shared.controller().pages_wanted(), 65536);
    assert!(handle.set_target(ByteSize::ZERO).is_err());
    assert_eq!(handle.target(), ByteSize::mib(256));
    handle.set_target(ByteSize::from_bytes(u64::MAX)).unwrap();
    assert_eq!(handle.target(), RAM);
    assert_eq!(handle.shared.event.read().unwrap(), 3);
}

#[test]
fn targets_stay_above_the_floor() {
    let spec = BalloonSpec {
        min: ByteSize::mib(128),
        initial: Some(ByteSize::mib(200)),
        ..BalloonSpec::new("b")
    };
    let handle = made(&spec).unwrap();
    assert_eq!(
        (handle.target(), handle.floor()),
        (ByteSize::mib(200), ByteSize::mib(128))
    );
    let error = handle.set_target(ByteSize::mib(127)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "balloon 'b' may leave no less than 128 MiB to the guest (min=), 127 MiB was asked"
    );
    assert_eq!(handle.target(), ByteSize::mib(200));
    handle.set_target(ByteSize::mib(128)).unwrap();
    let initial = Some(ByteSize::mib(1));
    assert!(made(&BalloonSpec { initial, ..spec }).is_err());
}

#[test]
fn actual_never_underflows() {
    let handle = handle();
    handle.shared.controller().claim(Instant::now(), u64::MAX);
    assert_eq!(handle.actual(), ByteSize::ZERO);
    assert_eq!(handle.counters().inflated, RAM.bytes());
}

#[test]
fn a_report_says_why_nothing_is_reported() {
    let reporting = |handle: &BalloonHandle| handle.report().reporting;
    let handle = handle();
    assert_eq!(handle.report().state, BalloonState::NoDriver);
    assert_eq!(reporting(&handle), ReportingState::NotNegotiated);
    handle.shared.accepted.store(0x30, Ordering::Relaxed);
    assert_eq!(reporting(&handle), ReportingState::On);
    assert_eq!(handle.report().accepted, ["page-poison", "free-page-reporting"]);
    assert_eq!(handle.report().poison_val, Some(0));
    let guard = handle.inhibit("vfio");
    assert_eq!(reporting(&handle), ReportingState::Off("inhibited: vfio".into()));
    drop(guard);
    handle.shared.poison_val.store(0xaaaa_aaaa, Ordering::Relaxed);
    let text = "the guest fills its free pages with 0xaaaaaaaa";
    assert_eq!(reporting(&handle), ReportingState::Off(text.into()));
    handle.shared.accepted.store(0x20, Ordering::Relaxed);
    assert_eq!(
        (reporting(&handle), handle.report().poison_val),
        (ReportingState::On, None)
    );
    let off = BalloonSpec {
        reporting: Reporting::Off("memory is preallocated".into()),
        ..BalloonSpec::new("b")
    };
    let text = "memory is preallocated".to_owned();
    assert_eq!(reporting(&made(&off).unwrap()), ReportingState::Off(text));
}

#[test]
fn inhibitors_are_counted_by_reason() {
    let handle = handle();
    let run = || handle.shared.inhibitors.unless_forbidden(|| 5);
    assert_eq!(run(), Some(5));
    let first = handle.inhibit("vfio 0000:01:00.0");
    let second = handle.inhibit("vfio 0000:01:00.0");
    let other = handle.inhibit("snapshot");
    let list = [("snapshot".to_owned(), 1), ("vfio 0000:01:00.0".to_owned(), 2)];
    assert_eq!(handle.report().inhibitors, list);
    drop((first, other));
    assert_eq!((run(), handle.report().inhibitors.len()), (None, 1));
    drop(second);
    assert_eq!((run(), handle.report().inhibitors.len()), (Some(5), 0));
}

/// Whoever inhibits may rely on it: a release that has begun is waited for, and the answer to a query is not.
#[test]
fn inhibiting_waits_for_a_release_in_progress() {
    let handle = handle();
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let (begun, began) = std::sync::mpsc::channel();
    let shared = Arc::clone(&handle.shared);
    let release = std::thread::spawn(move || {
        shared.inhibitors.unless_forbidden(|| {
            begun.send(()).unwrap();
            wait.recv().unwrap();
        })
    });
    began.recv().unwrap();
    let other = handle.clone();
    let inhibit = std::thread::spawn(move || other.inhibit("vfio"));
    std::thread::sleep(Duration::from_millis(50));
    assert!(!inhibit.is_finished());
    assert!(handle.report().inhibitors.len() <= 1, "a query does not wait");
    go.send(()).unwrap();
    assert_eq!(release.join().unwrap(), Some(()));
    drop(inhibit.join().unwrap());
}
