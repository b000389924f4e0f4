use devices::virtio::VirtioDevice;
use devices::virtio::balloon::F_STATS_VQ;

use super::*;
use crate::control::event::Event;
use crate::control::testing::{Fake, NOBODY, fake};

fn run(target: &mut Fake, name: &str, arguments: &Value) -> Answer {
    execute(
        target,
        name,
        Arguments::new(arguments.as_object().unwrap().clone()),
    )
}

fn ask(target: &mut Fake, name: &str) -> Value {
    run(target, name, &json!({})).unwrap()
}

fn refused(target: &mut Fake, name: &str, arguments: &Value) -> (&'static str, String) {
    let failure = run(target, name, arguments).unwrap_err();
    (failure.class.name(), failure.desc.into_owned())
}

fn generic(desc: &str) -> (&'static str, String) {
    ("GenericError", desc.to_owned())
}

#[test]
fn preallocations_are_told_and_stopped() {
    let target = &mut fake();
    assert_eq!(
        ask(target, "x-ballast-query-prealloc"),
        json!([{ "id": "ram", "mode": "off", "state": "none", "size": 64 << 20, "populated": 0, "skipped": 0,
            "elapsed-ms": 0, "rate": null, "eta-ms": null, "message": null }])
    );
    let cancel = "x-ballast-cancel-prealloc";
    let none = generic("no preallocation is running");
    assert_eq!(refused(target, cancel, &json!({})), none);
    let (class, _) = refused(target, cancel, &json!({ "id": "nope" }));
    assert_eq!(class, "DeviceNotFound");
    let of_backend = generic("no preallocation of backend 'ram' is running");
    assert_eq!(refused(target, cancel, &json!({ "id": "ram" })), of_backend);
    target.ram.backends()[0].set_prealloc(true).unwrap();
    let told = &ask(target, "x-ballast-query-prealloc")[0];
    assert_eq!(told["mode"], "background");
    assert!(told["state"] == "running" || told["state"] == "done", "{told}");
    assert!(told["rate"].is_u64(), "{told}");
}

#[test]
fn every_command_that_is_listed_is_there() {
    let target = &mut fake();
    for name in NAMES.iter().filter(|name| **name != "qmp_capabilities") {
        if let Err(failure) = run(target, name, &json!({})) {
            assert_eq!(failure.class, Class::GenericError, "{name}: {failure:?}");
        }
        let extra = json!({ "value": 64 << 20, "command-line": "help", "path": "/machine", "property": "type",
            "host-cpus": [0], "id": "x", "surplus": 1 });
        // What that takes is a matter of the object's type.
        if *name == "object-add" {
            continue;
        }
        let (class, desc) = refused(target, name, &extra);
        assert_eq!(class, "GenericError", "{name}");
        assert!(desc.ends_with("is unexpected"), "{name}: {desc}");
    }
    let listed = ask(target, "query-commands");
    assert_eq!(listed.as_array().unwrap().len(), NAMES.len());
    assert_eq!(listed[1], json!({ "name": "query-version" }));
    assert_eq!(
        refused(target, "nope", &json!({})),
        (
            "CommandNotFound",
            "The command nope has not been found".to_owned()
        )
    );
}

#[test]
fn queries_have_qemus_shapes() {
    let target = &mut fake();
    assert_eq!(
        ask(target, "query-status"),
        json!({ "status": "running", "singlestep": false, "running": true })
    );
    target.state = RunState::Prelaunch;
    assert_eq!(
        ask(target, "query-status"),
        json!({ "status": "prelaunch", "singlestep": false, "running": false })
    );
    assert_eq!(
        ask(target, "query-kvm"),
        json!({ "enabled": true, "present": true })
    );
    assert_eq!(ask(target, "query-name"), json!({ "name": "web" }));
    target.name = None;
    assert_eq!(ask(target, "query-name"), json!({}));
    assert_eq!(
        ask(target, "query-version")["qemu"],
        json!({ "major": 7, "minor": 2, "micro": 0 })
    );
    assert_eq!(
        ask(target, "query-memory-size-summary"),
        json!({ "base-memory": 64 << 20, "plugged-memory": 0 })
    );
    assert_eq!(
        ask(target, "query-cpus-fast")[1],
        json!({
            "cpu-index": 1,
            "qom-path": "/machine/unattached/device[1]",
            "thread-id": NOBODY,
            "target": "x86_64",
            "props": { "socket-id": 0, "core-id": 1, "thread-id": 0 },
            "x-ballast-host-cpus": null,
        })
    );
}

#[test]
fn vcpus_are_pinned_by_their_numbers() {
    let target = &mut fake();
    for (arguments, expected) in [
        (
            json!({ "vcpus": [2], "host-cpus": [0] }),
            "there is no vCPU 2; the guest has 2",
        ),
        (json!({ "host-cpus": [] }), "'[]' is not a list of CPUs"),
        (
            json!({ "host-cpus": [1023] }),
            "cannot run vCPU 0 on host CPU 1023: this machine has only CPUs 0",
        ),
        (
            json!({ "vcpus": [1], "host-cpus": [0] }),
            "cannot run vCPU 1 on host CPUs 0: No such process",
        ),
        (json!({ "vcpus": [1] }), "Parameter 'host-cpus' is missing"),
        (
            json!({ "host-cpus": [-1] }),
            "Invalid parameter type for 'host-cpus', expected: uint32",
        ),
    ] {
        let (_, found) = refused(target, "x-ballast-pin-vcpus", &arguments);
        assert!(found.contains(expected), "{found}");
    }
}

#[test]
fn the_balloon_takes_bytes() {
    let target = &mut fake();
    assert_eq!(ask(target, "query-balloon"), json!({ "actual": 64 << 20 }));
    assert_eq!(
        run(target, "balloon", &json!({ "value": 32 << 20 })),
        Ok(json!({}))
    );
    let wanted = |target: &Fake| target.balloon.as_ref().unwrap().target();
    assert_eq!(wanted(target), ByteSize::mib(32));
    // More than there is means all.
    assert_eq!(
        run(target, "balloon", &json!({ "value": 666_u64 << 20 })),
        Ok(json!({}))
    );
    assert_eq!(wanted(target), ByteSize::mib(64));
    for value in [0, -5] {
        let found = refused(target, "balloon", &json!({ "value": value }));
        assert_eq!(found, generic("Parameter 'target' expects a size"));
    }
    assert_eq!(
        refused(target, "balloon", &json!({})),
        generic("Parameter 'value' is missing")
    );
    assert_eq!(
        refused(target, "balloon", &json!({ "value": "x" })),
        generic("Invalid parameter type for 'value', expected: integer")
    );
    assert_eq!(
        refused(target, "balloon", &json!({ "value": 3 << 20 })),
        generic("balloon 'balloon0' may leave no less than 4 MiB to the guest (min=), 3 MiB was asked")
    );
    assert_eq!(wanted(target), ByteSize::mib(64));
    target.balloon = None;
    let none = (
        "DeviceNotActive",
        "No balloon device has been activated".to_owned(),
    );
    assert_eq!(refused(target, "query-balloon", &json!({})), none);
    assert_eq!(refused(target, "balloon", &json!({ "value": 0 })), none);
    assert_eq!(refused(target, "x-ballast-query-balloon", &json!({})), none);
}

#[test]
fn statistics_and_samples_are_worth_waiting_for() {
    let target = &mut fake();
    let asked = json!({ "path": "/machine/peripheral/balloon0", "property": "guest-stats" });
    let waits = |target: &mut Fake, name, arguments: &Value| {
        let arguments = Arguments::new(arguments.as_object().unwrap().clone());
        awaits(target, name, &arguments)
    };
    assert_eq!(waits(target, "qom-get", &asked), None, "there is no driver");
    target.device.activate(F_STATS_VQ);
    assert_eq!(waits(target, "qom-get", &asked), Some(Awaited::Statistics));
    assert_eq!(waits(target, "qom-set", &asked), None);
    for incomplete in [
        json!({ "path": 1, "property": "guest-stats" }),
        json!({ "path": "/machine/peripheral/balloon0" }),
    ] {
        assert_eq!(waits(target, "qom-get", &incomplete), None);
    }
    target.state = RunState::Paused;
    assert_eq!(waits(target, "qom-get", &asked), None, "the guest cannot answer");

    let line = |line: &str| ("human-monitor-command", json!({ "command-line": line }));
    let by_sample = [
        ("x-ballast-query-memory", json!({})),
        ("x-ballast-query-balloon", json!({})),
        line("info placement"),
        line(" info  balloon -v"),
    ];
    for slow in [true, false] {
        target.slow = slow;
        for (name, arguments) in &by_sample {
            let expected = slow.then_some(Awaited::Sample);
            assert_eq!(waits(target, name, arguments), expected, "{name} {arguments}");
        }
        for (name, arguments) in [("query-status", json!({})), line("info balloon"), line("")] {
            assert_eq!(waits(target, name, &arguments), None, "{name} {arguments}");
        }
    }
}

#[test]
fn the_machine_does_as_told_and_failures_are_told() {
    let target = &mut fake();
    let events = |name: &str, target: &mut Fake| {
        assert_eq!(ask(target, name), json!({}));
        target.take_events().iter().map(Event::name).collect::<Vec<_>>()
    };
    assert_eq!(events("stop", target), ["STOP"]);
    assert_eq!(events("cont", target), ["RESUME"]);
    assert_eq!(events("system_powerdown", target), ["POWERDOWN"]);
    assert_eq!(events("quit", target), ["SHUTDOWN"]);
    target.data_lost = true;
    let (class, desc) = refused(target, "cont", &json!({ "force": false }));
    assert!(class == "GenericError" && desc.contains("force=true"), "{desc}");
    assert_eq!(run(target, "cont", &json!({ "force": true })), Ok(json!({})));
    assert!(
        refused(target, "cont", &json!({ "force": 1 }))
            .1
            .ends_with("expected: boolean")
    );
    target.take_events();
    target.stuck = true;
    assert_eq!(refused(target, "stop", &json!({})).0, "GenericError");
    let (_, desc) = refused(target, "system_powerdown", &json!({}));
    assert!(
        desc.ends_with(": broken"),
        "the cause belongs to the text: {desc}"
    );
}

#[test]
fn people_are_answered_in_a_string() {
    let target = &mut fake();
    let ask = |target: &mut Fake, line: &str| {
        run(
            target,
            "human-monitor-command",
            &json!({ "command-line": line, "cpu-index": 0 }),
        )
        .unwrap()
    };
    assert_eq!(ask(target, "info balloon"), "balloon: actual=64\r\n");
    assert_eq!(ask(target, "balloon 32"), "");
    assert_eq!(ask(target, "nope"), "unknown command: 'nope'\r\n");
    assert_eq!(
        refused(target, "human-monitor-command", &json!({ "command-line": 1 })),
        generic("Invalid parameter type for 'command-line', expected: string")
    );
}

#[test]
fn faults_are_listed_by_kind() {
    let target = &mut fake();
    let list = ask(target, "x-ballast-query-faults");
    let kinds = list.as_array().unwrap();
    assert_eq!(kinds.len(), target.faults.counts().len());
    assert!(
        kinds
            .iter()
            .all(|kind| kind["count"] == 0 && kind["kind"].is_string())
    );
}

#[test]
fn daemons_are_there_or_gone() {
    use devices::virtio::vhost_user::VhostUserHandle;

    use crate::config::Chardev;
    use crate::control::daemon_report::Daemon;

    let target = &mut fake();
    assert_eq!(ask(target, "x-ballast-query-daemons"), json!([]));
    target.daemons = vec![Daemon {
        device: "vdisk0".to_owned(),
        chardev: Chardev {
            id: "c".to_owned(),
            path: "/run/c".into(),
        },
        handle: VhostUserHandle::new().unwrap(),
    }];
    assert_eq!(
        ask(target, "x-ballast-query-daemons"),
        json!([{ "chardev": "c", "path": "/run/c", "device": "vdisk0", "connected": false }])
    );
    let shown = crate::control::monitor::run(target, "info daemons");
    assert_eq!(shown, "c: /run/c for vdisk0: gone\n");
}

#[test]
fn disks_show_their_images_and_their_work() {
    use devices::disk::RawImage;
    use devices::virtio::blk::{Blk, BlkSpec};

    use crate::cli::disk::ImageFormat;
    use crate::config::Drive;
    use crate::control::block_report::Disk;

    let target = &mut fake();
    assert_eq!(ask(target, "query-block"), json!([]));
    assert_eq!(ask(target, "query-blockstats"), json!([]));
    let spec = BlkSpec {
        id: "disk0".to_owned(),
        serial: String::new(),
        queues: 1,
        read_only: true,
        discard: true,
    };
    let image = RawImage::new(tempfile::tempfile().unwrap(), 1 << 20);
    let (handle, _) = Blk::new(spec.clone(), Box::new(image)).unwrap();
    let drive = Drive {
        id: "d".to_owned(),
        file: "/images/d".into(),
        format: ImageFormat::Raw,
        read_only: true,
    };
    target.disks = vec![Disk {
        spec,
        drive,
        size: 1 << 20,
        backing: Vec::new(),
        handle,
    }];
    let shown = &ask(target, "query-block")[0];
    assert_eq!((&shown["device"], &shown["qdev"]), (&json!("d"), &json!("disk0")));
    let image = &shown["inserted"]["image"];
    assert_eq!(shown["inserted"]["ro"], true);
    assert_eq!(
        *image,
        json!({ "filename": "/images/d", "format": "raw", "virtual-size": 1 << 20 })
    );
    assert_eq!(
        crate::control::monitor::run(target, "info block"),
        "d (#d): /images/d (raw, read-only)\n    Attached to:      /machine/peripheral/disk0\n    Cache mode:       writeback\n"
    );
    target.disks[0].drive.format = ImageFormat::Qcow2;
    target.disks[0].backing = vec!["/images/base".into()];
    let shown = &ask(target, "query-block")[0]["inserted"];
    assert_eq!(shown["drv"], "qcow2");
    assert_eq!(shown["backing_file_depth"], 1);
    assert_eq!(shown["image"]["backing-filename"], "/images/base");
    let text = crate::control::monitor::run(target, "info block");
    assert!(
        text.contains("Backing file:     /images/base (chain depth: 1)"),
        "{text}"
    );
    let stats = &ask(target, "query-blockstats")[0];
    assert_eq!(
        (&stats["device"], &stats["stats"]["wr_bytes"]),
        (&json!("d"), &json!(0))
    );
}
