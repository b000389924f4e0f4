use std::time::Duration;

use devices::virtio::balloon::StallReason;
use memory::ram::PreallocState;
use vm_memory::GuestAddress;

use super::*;
use crate::host::testing::shaky;
use crate::starvation::broken::{Action, BrokenMemory};
use crate::starvation::{Starvation, Witness};

fn qmp(event: &Event) -> Value {
    event.to_qmp(UNIX_EPOCH + Duration::new(3, 4_000))
}

#[test]
fn events_have_qemus_shape() {
    let timestamp = json!({ "seconds": 3, "microseconds": 4 });
    assert_eq!(
        qmp(&Event::Stop),
        json!({ "event": "STOP", "timestamp": timestamp })
    );
    assert_eq!(qmp(&Event::Resume)["event"], "RESUME");
    assert_eq!(qmp(&Event::Powerdown)["event"], "POWERDOWN");
    let change = qmp(&Event::BalloonChange {
        actual: ByteSize::mib(1),
    });
    assert_eq!(
        (&change["event"], &change["data"]),
        (&json!("BALLOON_CHANGE"), &json!({ "actual": 1 << 20 }))
    );
    let reasons = [
        (ShutdownReason::GuestShutdown, "guest-shutdown"),
        (ShutdownReason::GuestReset, "guest-reset"),
        (ShutdownReason::HostQmpQuit, "host-qmp-quit"),
        (ShutdownReason::HostQmpSystemReset, "host-qmp-system-reset"),
        (ShutdownReason::HostSignal, "host-signal"),
        (ShutdownReason::HostError, "host-error"),
    ];
    for (reason, name) in reasons {
        let event = qmp(&Event::Shutdown { guest: true, reason });
        assert_eq!(
            (&event["event"], &event["data"]),
            (&json!("SHUTDOWN"), &json!({ "guest": true, "reason": name }))
        );
        let event = qmp(&Event::Reset { guest: false, reason });
        assert_eq!(
            (&event["event"], &event["data"]),
            (&json!("RESET"), &json!({ "guest": false, "reason": name }))
        );
    }
}

#[test]
fn a_stuck_balloon_and_a_guest_in_need_are_told_with_figures() {
    let stalled = qmp(&Event::BalloonStalled(StallReport {
        reason: StallReason::GuestShort {
            free: ByteSize::mib(3),
        },
        since: Duration::from_secs(5),
        target: ByteSize::mib(16),
        actual: ByteSize::mib(40),
    }));
    assert_eq!(stalled["event"], "x-ballast-BALLOON_STALLED");
    assert_eq!(
        stalled["data"],
        json!({ "reason": "guest-short", "message": "the guest has no more to give: 3 MiB available", "seconds": 5,
            "target": 16 << 20, "actual": 40 << 20 })
    );
    let distress = qmp(&Event::BalloonDistress(DistressReport {
        signs: vec![("stat-oom-kills", 1), ("stat-alloc-stalls", 70)],
        target: ByteSize::mib(16),
        given_back: ByteSize::mib(48),
    }));
    assert_eq!(distress["event"], "x-ballast-BALLOON_DISTRESS");
    assert_eq!(
        distress["data"],
        json!({ "signs": { "stat-oom-kills": 1, "stat-alloc-stalls": 70 }, "target": 16 << 20,
            "given-back": 48 << 20 })
    );
}

#[test]
fn an_ended_preallocation_says_how() {
    let mut report = PreallocReport {
        id: "mem0".to_owned(),
        state: PreallocState::Done,
        size: ByteSize::mib(64),
        populated: ByteSize::mib(62),
        skipped: ByteSize::mib(2),
        elapsed: Duration::from_millis(1500),
    };
    let event = qmp(&Event::PreallocEnded(report.clone()));
    assert_eq!(event["event"], "x-ballast-PREALLOC_ENDED");
    assert_eq!(
        event["data"],
        json!({ "id": "mem0", "state": "done", "size": 64 << 20, "populated": 62 << 20, "skipped": 2 << 20,
            "elapsed-ms": 1500, "message": null })
    );
    report.state = PreallocState::Failed("no page".to_owned());
    let data = qmp(&Event::PreallocEnded(report))["data"].clone();
    assert_eq!(
        (&data["state"], &data["message"]),
        (&json!("failed"), &json!("no page"))
    );
}

#[test]
fn misplaced_memory_is_told_with_its_nodes() {
    let size = ByteSize::mib(2);
    let event = qmp(&Event::MemoryMisplaced(Misplaced {
        backend: "mem0".to_owned(),
        policy: "preferred 1".to_owned(),
        strict: false,
        misplaced: size,
        nodes: vec![(0, size)],
    }));
    assert_eq!(event["event"], "x-ballast-MEMORY_MISPLACED");
    let message = event["data"]["message"].clone();
    assert_eq!(
        event["data"],
        json!({ "id": "mem0", "policy": "preferred 1", "strict": false, "misplaced": 2 << 20,
            "nodes": [{ "node": 0, "bytes": 2 << 20 }], "message": message })
    );
}

#[test]
fn starvation_says_null_for_what_is_unknown() {
    let (ram, _file) = shaky();
    let starved = |witness, address| {
        let diagnosis = Starvation::new(witness, address).diagnose(&ram);
        qmp(&Event::MemoryStarved(diagnosis))
    };
    let event = starved(Witness::Device, Some(GuestAddress(0x1000)));
    assert_eq!(event["event"], "x-ballast-MEMORY_STARVED");
    let data = &event["data"];
    assert_eq!(
        (&data["address"], &data["backend"], &data["page-size"]),
        (&json!(4096), &json!("mem0"), &json!(4096))
    );
    assert_eq!(
        (&data["data-lost"], &data["host-nodes"]),
        (&json!(false), &json!([]))
    );
    assert!(data["vcpu"].is_null() && data["pool"].is_null() && data["cause"].is_null());
    let data = starved(Witness::Vcpu(3), None)["data"].clone();
    assert!(data["address"].is_null());
    assert_eq!(data["vcpu"], 3);
}

#[test]
fn broken_memory_has_qemus_shape() {
    let broken = BrokenMemory::touched_by_vcpu(1, GuestAddress(0x2000), Action::Inject, true);
    let event = qmp(&Event::MemoryFailure(broken.report(None)));
    assert_eq!(event["event"], "MEMORY_FAILURE");
    let data = &event["data"];
    assert_eq!(
        (&data["recipient"], &data["action"]),
        (&json!("guest"), &json!("inject"))
    );
    assert_eq!(
        data["flags"],
        json!({ "action-required": true, "recursive": true })
    );
    assert_eq!(
        (&data["x-ballast"]["address"], &data["x-ballast"]["vcpu"]),
        (&json!(0x2000), &json!(1))
    );
}
