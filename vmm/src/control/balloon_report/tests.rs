use super::*;
use crate::control::testing::fake;

#[test]
fn programs_are_told_everything() {
    let mut target = fake();
    let sample = target.read_sample();
    let handle = target.balloon.as_ref().unwrap();
    handle.set_target(ByteSize::mib(32)).unwrap();
    let value = query(handle, &target.ram, &sample);
    let expected = json!({
        "id": "balloon0", "state": "no-driver", "target": 32 << 20, "actual": 64 << 20, "floor": 4 << 20,
        "eta": null, "poison-value": null, "inhibitors": [], "stats": null, "stats-polling-interval": 0,
        "inflated": 0, "discarded": 0, "reported": 0, "partial": 0, "refused": 0, "failed": 0, "rounded": 0,
        "unreserved": 0, "inhibited": 0, "poisoned": 0, "free-page-reporting": { "state": "not-negotiated" },
        "backends": [{ "id": "ram", "page-size": 4096, "size": 64 << 20, "inflated": 0, "discarded": 0,
            "reported": 0, "partial": 0, "resident": 0, "refaulted": 0, "keeps": null }],
    });
    for (name, expected) in expected.as_object().unwrap() {
        assert_eq!(value[name], *expected, "{name} in {value}");
    }
    assert_eq!(value["features"]["accepted"], json!([]));
    assert_eq!(
        value["features"]["offered"],
        json!(["guest-stats", "page-poison", "free-page-reporting"])
    );
}

#[test]
fn people_are_told_why_something_is_off() {
    let mut target = fake();
    let sample = target.read_sample();
    let handle = target.balloon.as_ref().unwrap();
    assert_eq!(short(handle), "balloon: actual=64\n");
    let guard = handle.inhibit("a device writes to guest memory");
    let text = long(handle, &target.ram, &sample);
    assert!(
        text.starts_with("balloon: actual=64\n  state: no-driver\n"),
        "{text}"
    );
    for line in [
        "  target: 64 MiB\n",
        "  floor: 4 MiB\n",
        "  discarded: 0 bytes\n",
        "  nothing is discarded: a device writes to guest memory (1)\n",
        "  backend 'ram': 0 bytes of 64 MiB resident, pages of 4 KiB; inflated 0 bytes, discarded 0 bytes, reported 0 bytes, \
         partial 0 bytes, of all discarded 0 bytes or more taken again\n",
    ] {
        assert!(text.contains(line), "{line:?} is not in {text}");
    }
    drop(guard);
    assert!(!long(handle, &target.ram, &sample).contains("nothing is discarded"));
    assert_eq!(stats_text(handle), "The guest has told no statistics yet.\n");
}

#[test]
fn what_was_discarded_and_is_there_came_back() {
    let target = fake();
    let came_back = |discarded, resident| {
        let share = Share {
            backend: &target.ram.backends()[0],
            resident: ByteSize::mib(resident),
            figures: BackendFigures {
                discarded: ByteSize::mib(discarded).bytes() - 4096,
                reported: 4096,
                ..BackendFigures::default()
            },
        };
        share.refaulted().bytes() >> 20
    };
    assert_eq!(came_back(40, 24), 0);
    assert_eq!(came_back(40, 64), 40);
    assert_eq!(came_back(40, 34), 10);
    // What was never touched is absent too.
    assert_eq!(came_back(40, 10), 0);
    // More than there is, by whatever account.
    assert_eq!(came_back(300, 80), 300);
}
