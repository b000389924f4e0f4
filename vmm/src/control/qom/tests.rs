use devices::virtio::VirtioDevice;
use devices::virtio::balloon::{Balloon, BalloonSpec, F_STATS_VQ};

use super::*;
use crate::control::testing::{Fake, fake};

const PATH: &str = "/machine/peripheral/balloon0";

fn refused(result: Result<impl std::fmt::Debug, Failure>) -> (&'static str, String) {
    let failure = result.unwrap_err();
    (failure.class.name(), failure.desc.into_owned())
}

fn generic(desc: &str) -> (&'static str, String) {
    ("GenericError", desc.to_owned())
}

#[test]
fn paths_lead_to_the_balloon() {
    let target = fake();
    for path in [
        PATH,
        "/machine//peripheral/balloon0/",
        "balloon0",
        "peripheral/balloon0",
    ] {
        assert_eq!(
            get(&target, path, "type"),
            Ok(json!("virtio-balloon-pci")),
            "{path}"
        );
    }
    for path in [
        "/nope",
        "/balloon0",
        "",
        "loon0",
        "machine/balloon0",
        "/machine/peripheral/balloon0/x",
    ] {
        let (class, desc) = refused(get(&target, path, "type"));
        assert_eq!(
            (class, desc),
            ("DeviceNotFound", format!("Device '{path}' not found"))
        );
    }
    assert_eq!(
        get(&target, "/machine", "peripheral"),
        Ok(json!("/machine/peripheral"))
    );
    assert_eq!(get(&target, "/", "machine"), Ok(json!("/machine")));
    assert_eq!(get(&target, "/machine", "type"), Ok(json!("container")));
    let mut bare = fake();
    bare.balloon = None;
    assert_eq!(refused(get(&bare, PATH, "type")).0, "DeviceNotFound");
    assert_eq!(
        list(&bare, "/machine/peripheral"),
        Ok(json!([{ "name": "type", "type": "string" }]))
    );
}

#[test]
fn what_is_listed_can_be_read() {
    let target = fake();
    let mut path = String::from("/");
    for name in ["machine", "peripheral", "balloon0"] {
        let entries = list(&target, &path).unwrap();
        let entry = entries
            .as_array()
            .unwrap()
            .iter()
            .find(|entry| entry["name"] == name);
        assert!(
            entry.unwrap()["type"].as_str().unwrap().starts_with("child<"),
            "{entries}"
        );
        path = get(&target, &path, name).unwrap().as_str().unwrap().to_owned();
    }
    assert_eq!(path, PATH);
    let entries = list(&target, PATH).unwrap();
    let entries = entries.as_array().unwrap();
    assert_eq!(entries.len(), PROPERTIES.len());
    for entry in entries {
        let value = get(&target, PATH, entry["name"].as_str().unwrap()).unwrap();
        let fits = match entry["type"].as_str().unwrap() {
            "bool" => value.is_boolean(),
            "int" | "size" => value.is_u64(),
            "string" => value.is_string(),
            _ => value.is_object(),
        };
        assert!(fits, "{entry}: {value}");
    }
    assert_eq!(get(&target, PATH, "min"), Ok(json!(4 << 20)));
    for (name, value) in [
        ("page-poison", true),
        ("free-page-reporting", true),
        ("free-page-hint", false),
        ("deflate-on-oom", false),
        ("deflate-on-distress", false),
    ] {
        assert_eq!(get(&target, PATH, name), Ok(json!(value)), "{name}");
    }
    assert_eq!(
        refused(get(&target, PATH, "nope")),
        generic("Property 'virtio-balloon-pci.nope' not found")
    );
    assert_eq!(
        refused(get(&target, "/machine", "nope")),
        generic("Property 'container.nope' not found")
    );
}

#[test]
fn statistics_have_qemus_shape_before_there_are_any() {
    let value = get(&fake(), PATH, GUEST_STATS).unwrap();
    assert_eq!(value["last-update"], 0);
    let stats = value["stats"].as_object().unwrap();
    assert_eq!(stats.len(), 16);
    for name in [
        "stat-swap-in",
        "stat-htlb-pgfail",
        "stat-oom-kills",
        "stat-direct-reclaims",
    ] {
        assert_eq!(stats[name], json!(18_446_744_073_709_551_615_u64), "{name}");
    }
}

#[test]
fn the_interval_is_set_live_and_nothing_else_is() {
    let target = fake();
    let set_interval = |value: Value| set(&target, PATH, INTERVAL, &value);
    for seconds in [7, 0, u32::MAX] {
        set_interval(json!(seconds)).unwrap();
        assert_eq!(get(&target, PATH, INTERVAL), Ok(json!(seconds)));
    }
    assert_eq!(
        refused(set_interval(json!(-1))),
        generic("timer value must be greater than zero")
    );
    assert_eq!(
        refused(set_interval(json!(1_u64 << 32))),
        generic("timer value is too big")
    );
    for value in [json!("5"), json!(1.5), json!(null), json!(u64::MAX)] {
        assert_eq!(
            refused(set_interval(value)),
            generic("Invalid parameter type for 'guest-stats-polling-interval', expected: integer")
        );
    }
    assert_eq!(
        refused(set(&target, PATH, "min", &json!(1))),
        generic("Property 'virtio-balloon-pci.min' is not writable")
    );
    assert_eq!(
        refused(set(&target, PATH, "nope", &json!(1))),
        generic("Property 'virtio-balloon-pci.nope' not found")
    );
    assert_eq!(
        refused(set(&target, "/machine", "type", &json!("x"))),
        generic("Property 'container.type' is not writable")
    );
}

#[test]
fn a_guest_that_is_watched_goes_on_being_asked() {
    let mut target = fake();
    let spec = BalloonSpec {
        deflate_on_distress: true,
        stats_interval: Duration::from_secs(1),
        ..BalloonSpec::new("balloon0")
    };
    let (balloon, _) = Balloon::new(spec, target.ram.clone(), Box::new(|_| ())).unwrap();
    target.balloon = Some(balloon);
    assert_eq!(get(&target, PATH, "deflate-on-distress"), Ok(json!(true)));
    let (_, desc) = refused(set(&target, PATH, INTERVAL, &json!(0)));
    assert!(desc.contains("needs statistics"), "{desc}");
    set(&target, PATH, INTERVAL, &json!(9)).unwrap();
    assert_eq!(get(&target, PATH, INTERVAL), Ok(json!(9)));
}

#[test]
fn a_guest_is_asked_only_for_what_it_knows() {
    let mut target = fake();
    let asked = |target: &Fake| ask_guest(target, PATH, GUEST_STATS);
    assert!(!asked(&target), "nobody is there who could answer");
    target.device.activate(F_STATS_VQ);
    assert!(asked(&target));
    assert!(!ask_guest(&target, PATH, INTERVAL));
    assert!(!ask_guest(&target, "/machine", GUEST_STATS));
    target.device.reset();
    assert!(!asked(&target));
}

#[test]
fn devices_and_objects_show_how_they_were_made() {
    let mut target = fake();
    let words = "ballast run -kernel k -object rng-random,id=r -device virtio-rng-pci,rng=r,max-bytes=8 -device virtio-rng-pci,rng=r";
    let crate::cli::Command::Run(args) = crate::cli::parse(words.split(' ').map(Into::into)).unwrap() else {
        panic!("another command")
    };
    target.items = crate::control::inventory::items(&crate::config::Config::new(args).unwrap());
    let names = |path| -> Vec<String> {
        let entries = list(&target, path).unwrap();
        let name = |entry: &Value| entry["name"].as_str().unwrap().to_owned();
        entries.as_array().unwrap().iter().map(name).collect()
    };
    assert_eq!(names("/machine/peripheral"), ["type", "balloon0", "rng0", "rng1"]);
    assert_eq!(names("/objects"), ["type", "ram", "r"]);
    assert_eq!(names("rng0"), ["type", "max-bytes", "period", "rng"]);
    for (path, property, value) in [
        ("rng0", "type", json!("virtio-rng-pci")),
        ("rng0", "max-bytes", json!(8)),
        ("/machine/peripheral/rng1", "max-bytes", json!(i64::MAX)),
        ("rng1", "rng", json!("/objects/r")),
        ("/objects/r", "type", json!("rng-random")),
        ("/objects/r", "filename", json!("/dev/urandom")),
    ] {
        assert_eq!(get(&target, path, property), Ok(value), "{path} {property}");
    }
    assert_eq!(
        refused(get(&target, "rng0", "nope")),
        generic("Property 'virtio-rng-pci.nope' not found")
    );
    assert_eq!(
        refused(set(&target, "rng0", "period", &json!(1))),
        generic("Property 'virtio-rng-pci.period' is not writable")
    );
}
