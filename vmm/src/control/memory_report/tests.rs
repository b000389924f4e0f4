use memory::backend::BackendKind;

use super::*;
use crate::cli::memory_options::ObjectArg;
use crate::control::testing::fake;

#[test]
fn memdev_has_qemus_shape_and_what_took_effect() {
    let list = memdev(&fake());
    let mut one = list[0].clone();
    let effective = one
        .as_object_mut()
        .unwrap()
        .remove("x-ballast-effective")
        .unwrap();
    assert_eq!(
        one,
        json!({
            "id": "ram", "size": 64 << 20, "merge": false, "dump": true, "prealloc": false, "share": false,
            "reserve": false, "host-nodes": [], "policy": "default",
        })
    );
    assert_eq!(
        (&effective["share"], &effective["page-size"]),
        (&json!(false), &json!(4096))
    );
    assert_eq!(list.as_array().unwrap().len(), 1);
}

#[test]
fn people_see_the_same() {
    let text = memdev_text(&fake());
    let expected = "memory backend: ram\n  size:  67108864\n  merge: false\n  dump: true\n  prealloc: false\n  \
                    share: false\n  reserve: false\n  policy: default\n  host nodes: \n  in effect: backend 'ram': ";
    assert!(text.starts_with(expected), "{text}");
    assert!(text.ends_with("\n\n"), "{text}");
}

#[test]
fn asked_effective_and_resident_stay_apart() {
    let mut target = fake();
    let sample = target.read_sample();
    let report = memory(&target, &sample);
    assert_eq!(
        (&report["size"], &report["resident"]),
        (&json!(64 << 20), &json!(0))
    );
    let backend = &report["backends"][0];
    assert_eq!(backend["asked"]["share"], json!(null));
    assert_eq!(backend["asked"]["policy"], "default");
    assert_eq!(backend["effective"]["share"], json!(false));
    assert_eq!(backend["pool"], json!(null));
    assert_eq!(report["balloon"]["target"], 64 << 20);
    assert_eq!(report["balloon"]["inflated"], 0);
    target.balloon = None;
    assert_eq!(memory(&target, &sample)["balloon"], json!(null));
}

#[test]
fn ksm_says_why_nothing_is_gained() {
    let text = ksm_text(&fake().ram);
    assert!(
        text == "This kernel has no KSM.\n" || text.contains("may be merged: see merge=on"),
        "{text}"
    );
    let stopped = HostKsm {
        run: 0,
        figures: [("run".to_owned(), 0), ("pages_sharing".to_owned(), 7)].into(),
    };
    assert!(host_text(&stopped).starts_with("host: run=0 pages_sharing=7\nKSM does not run"));
    let running = HostKsm { run: 1, ..stopped };
    assert!(!host_text(&running).contains("does not run"));
    let own = OwnKsm {
        merging_pages: 5,
        zero_pages: 1,
        rmap_items: 9,
        profit: -64,
    };
    assert_eq!(
        own_text(&own),
        "this guest: ksm_merging_pages=5 ksm_zero_pages=1 ksm_rmap_items=9 ksm_process_profit=-64\n"
    );
}

#[test]
fn placement_is_told_by_backend_and_node() {
    let mut target = fake();
    let sample = target.read_sample();
    let text = placement_text(&target, &sample);
    let first = "guest node 0, backend ram: 64 MiB of anonymous memory, pages of 4 KiB, policy ";
    assert!(text.starts_with(first), "{text}");
    assert!(
        text.contains("\n  resident 0 bytes, transparent huge 0 bytes, "),
        "{text}"
    );
    let report = memory(&target, &sample);
    assert!(report["age-ms"].as_u64().unwrap() < 60_000);
    assert_eq!(report["backends"][0]["guest-node"], 0);
    assert_eq!(report["backends"][0]["nodes-exact"], true);
    assert_eq!(
        report["backends"][0]["differs"].as_array().unwrap().is_empty(),
        !text.contains("not as asked")
    );
}

#[test]
fn what_no_guest_uses_is_told_too() {
    let mut target = fake();
    let before = target.read_sample();
    let object = ObjectArg::new("extra", BackendKind::memfd(None), ByteSize::mib(2));
    target.add_object(object).unwrap();
    assert_eq!(
        memory(&target, &before)["backends"].as_array().unwrap().len(),
        1,
        "it came later"
    );
    let sample = target.read_sample();
    target.remove_object("extra").unwrap();
    let object = ObjectArg::new("extra", BackendKind::memfd(None), ByteSize::mib(4));
    target.add_object(object).unwrap();
    assert_eq!(
        memory(&target, &sample)["backends"].as_array().unwrap().len(),
        1,
        "another of that name has come since"
    );
    target.remove_object("extra").unwrap();
    let object = ObjectArg::new("extra", BackendKind::memfd(None), ByteSize::mib(2));
    target.add_object(object).unwrap();
    let sample = target.read_sample();
    let report = memory(&target, &sample);
    let extra = &report["backends"][1];
    assert_eq!(
        (&extra["id"], &extra["guest-node"], &extra["resident"]),
        (&json!("extra"), &json!(null), &json!(0))
    );
    assert_eq!(report["size"], 64 << 20);
    let text = placement_text(&target, &sample);
    assert!(
        text.contains("\nno guest node, backend extra: 2 MiB of memfd, "),
        "{text}"
    );
}
