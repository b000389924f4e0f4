use vm_memory::GuestAddress;

use super::*;
use crate::starvation::Starvation;

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
        (ShutdownReason::HostSignal, "host-signal"),
        (ShutdownReason::HostError, "host-error"),
    ];
    for (reason, name) in reasons {
        let event = qmp(&Event::Shutdown { guest: true, reason });
        assert_eq!(
            (&event["event"], &event["data"]),
            (&json!("SHUTDOWN"), &json!({ "guest": true, "reason": name }))
        );
    }
}

#[test]
fn starvation_says_null_for_what_is_unknown() {
    let mut diagnosis = Diagnosis {
        starvation: Starvation {
            vcpu: None,
            address: Some(GuestAddress(0x1000)),
        },
        backend: Some("mem".to_owned()),
        page_size: Some(2 << 20),
        nodes: None,
        pool: None,
    };
    let data = qmp(&Event::MemoryStarved(diagnosis.clone()))["data"].clone();
    assert_eq!(
        (&data["address"], &data["backend"], &data["page-size"]),
        (&json!(4096), &json!("mem"), &json!(2 << 20))
    );
    assert!(data["vcpu"].is_null() && data["policy"].is_null());
    diagnosis.starvation.address = None;
    let event = qmp(&Event::MemoryStarved(diagnosis));
    assert!(event["data"]["address"].is_null());
    assert_eq!(event["event"], "x-ballast-MEMORY_STARVED");
}

#[test]
fn the_first_and_the_last_of_a_burst_go_through() {
    let start = Instant::now();
    let at = |ms| start + Duration::from_millis(ms);
    let mut limit = RateLimit::default();
    assert_eq!(limit.due(at(0)), None);
    assert_eq!(limit.offer(1, at(0)), Some(1));
    assert_eq!(limit.due(at(0)), None);
    assert_eq!(limit.offer(2, at(100)), None);
    assert_eq!(limit.offer(3, at(200)), None);
    assert_eq!(limit.due(at(300)), Some(Duration::from_millis(700)));
    assert_eq!(limit.expire(at(900)), None);
    assert_eq!(limit.expire(at(1000)), Some(3));
    // The one that waited starts a period too.
    assert_eq!(limit.offer(4, at(1500)), None);
    assert_eq!(limit.expire(at(2000)), Some(4));
    assert_eq!(limit.expire(at(4000)), None);
    assert_eq!(limit.offer(5, at(4000)), Some(5));
}
