use std::ffi::OsString;
use std::time::Duration;

use devices::virtio::balloon::Reporting;
use memory::backend::{BackendKind, Lock, MergeRequest, Prealloc};

use super::*;
use crate::cli::rng::Entropy;
use crate::cli::{self, Command};

fn config(line: &str) -> Result<Config, Error> {
    let words = ["ballast", "run", "-kernel", "k"]
        .into_iter()
        .chain(line.split_whitespace())
        .map(OsString::from);
    let Command::Run(args) = cli::parse(words).unwrap() else {
        panic!("another command")
    };
    Config::new(args)
}

fn text(line: &str) -> String {
    config(line).unwrap_err().to_string()
}

const M: &str = "-object memory-backend-ram,id=m,size=512M";

#[test]
fn has_defaults() {
    let config = config("").unwrap();
    assert_eq!(config.memory, ByteSize::mib(128));
    assert_eq!(
        (config.topology.vcpus(), config.start_paused, config.verbose),
        (1, false, false)
    );
    assert_eq!(
        (config.serial.clone(), config.monitor.clone()),
        (SerialSpec::Stdio, MonitorSpec::None)
    );
    assert!(config.qmp.is_empty() && config.balloon.is_none() && config.name.is_none());
    assert!(!config.is_attended());
    let [backend] = &config.backends[..] else {
        panic!("{config:?}")
    };
    assert_eq!(
        (backend.id.as_str(), &backend.kind, backend.size),
        ("ram", &BackendKind::Ram, config.memory)
    );
    assert_eq!(
        (backend.prealloc, &backend.merge),
        (Prealloc::Off, &MergeRequest::Default(false))
    );
    assert_eq!(config.boot.cmdline, "");
    assert!(config.warnings.is_empty());
}

#[test]
fn cpus_that_never_come_are_told() {
    let config = config("-smp 2,maxcpus=4").unwrap();
    assert_eq!((config.topology.vcpus(), config.topology.places()), (2, 4));
    let expected = "-smp: the guest is told of 4 CPUs and has 2";
    assert!(config.warnings[0].starts_with(expected), "{:?}", config.warnings);
}

#[test]
fn wants_a_kernel() {
    assert!(matches!(Config::new(Args::default()), Err(Error::KernelMissing)));
}

#[test]
fn makes_the_default_backend_of_a_directory() {
    let config = config("-m 1G -mem-path /dev/hugepages -mem-prealloc -machine mem-merge=on").unwrap();
    let backend = &config.backends[0];
    assert_eq!(backend.kind, BackendKind::file("/dev/hugepages"));
    assert_eq!(backend.prealloc, Prealloc::On);
    assert_eq!(backend.merge, MergeRequest::Default(true));
    assert_eq!(backend.size, ByteSize::gib(1));
}

#[test]
fn takes_the_backend_that_is_named() {
    for name in [
        "-machine memory-backend=m",
        "-numa node,memdev=m",
        "-M q35 -machine memory-backend=m -machine mem-merge=off",
    ] {
        let config = config(&format!("-m 512 {M},prealloc=off,merge=on {name} -mem-prealloc")).unwrap();
        let [backend] = &config.backends[..] else {
            panic!("{config:?}")
        };
        assert_eq!(backend.id, "m");
        // What the object says wins over the machine-wide options.
        assert_eq!(backend.prealloc, Prealloc::Off);
        assert_eq!(backend.merge, MergeRequest::On);
    }
    let config = config(&format!("{M} -numa node,memdev=m -mem-prealloc")).unwrap();
    assert_eq!(
        config.memory,
        ByteSize::mib(512),
        "without -m the backend says how much"
    );
    assert_eq!(config.backends[0].prealloc, Prealloc::On);
}

#[test]
fn machine_wide_defaults_yield_to_the_backend() {
    let backend = |line: &str| {
        let line = format!("{line} -machine memory-backend=m");
        config(&line).unwrap().backends.remove(0)
    };
    let wide = format!("-machine dump-guest-core=off -overcommit mem-lock=on {M}");
    let as_wide = backend(&wide);
    assert!(!as_wide.dump && as_wide.prealloc == Prealloc::On);
    assert_eq!(as_wide.lock, Lock::On);
    let own = backend(&format!("{wide},dump=on,lock=on-fault"));
    assert!(own.dump && own.prealloc == Prealloc::Off);
    assert_eq!(own.lock, Lock::OnFault);
    let text = text(&format!("{wide},prealloc=off -machine memory-backend=m"));
    assert!(text.contains("use lock=on-fault"), "{text}");
}

#[test]
fn warns_of_a_backend_that_nothing_uses() {
    let config = config(&format!("{M} -numa node")).unwrap();
    assert_eq!(config.backends[0].id, "ram");
    assert_eq!(config.warnings.len(), 1);
    assert!(config.warnings[0].starts_with("the backend 'm' is made, but the guest does not use it"));
}

#[test]
fn refuses_memory_that_does_not_fit_together() {
    assert!(
        text(&format!("-m 1G {M} -numa node,memdev=m"))
            .starts_with("-m says 1 GiB, but the backend 'm' has 512 MiB")
    );
    assert_eq!(
        text(&format!("{M} -numa node,memdev=x")),
        "-numa node,memdev=x: there is no backend 'x'; known: 'm'"
    );
    assert!(
        text("-machine memory-backend=x")
            .starts_with("-machine memory-backend=x: there is no backend 'x'; -object")
    );
    assert_eq!(
        text(&format!("{M} {M} -numa node,memdev=m")),
        "two objects have the id 'm'"
    );
    assert!(text(&format!("{M} -numa node,memdev=m -machine memory-backend=m")).contains("use one"));
    assert!(
        text(&format!("{M} -numa node,memdev=m -mem-path /x")).starts_with("-mem-path is for the default")
    );
    assert!(text("-m 0").contains("size 0"));
}

#[test]
fn takes_the_backends_of_the_nodes() {
    let two = "-object memory-backend-ram,id=b,size=1G -object memory-backend-memfd,id=a,size=512M";
    let nodes = "-smp 3 -numa node,nodeid=1,cpus=0,memdev=b -numa node,nodeid=0,cpus=1-2,memdev=a";
    let both = config(&format!(
        "-m 1536 {two} {nodes} -numa node,memdev=c -object memory-backend-ram,id=c,size=0"
    ));
    assert!(matches!(both, Err(Error::Memory(_))), "{both:?}");
    let config = config(&format!("{two} {nodes}")).unwrap();
    let ids: Vec<_> = config
        .backends
        .iter()
        .map(|backend| backend.id.as_str())
        .collect();
    assert_eq!((ids, config.memory), (vec!["a", "b"], ByteSize::mib(1536)));
    let numa = config.numa.as_ref().unwrap();
    assert_eq!(numa.vcpus, [1, 0, 0]);
    let places: Vec<_> = config.backends.iter().map(|backend| backend.guest_node).collect();
    assert_eq!(places, [0, 1]);

    assert_eq!(
        text(&format!("-m 1G {two} {nodes}")),
        "-m says 1 GiB, but the backends of the nodes have together 1536 MiB; they must be equal"
    );
    assert_eq!(
        text(&format!("{two} -numa node,cpus=0,memdev=a -numa node,memdev=a")),
        "the backend 'a' is the memory of node 0 and of node 1; each needs its own"
    );
    assert!(text("-smp 2 -numa node,cpus=0 -numa node,cpus=1").starts_with("none of the 2 nodes has memory"));
}

#[test]
fn nodes_without_memory_have_their_vcpus() {
    let config = config(&format!(
        "{M} -smp 4,sockets=2 -numa node,cpus=0-1 -numa node,cpus=2-3,memdev=m"
    ))
    .unwrap();
    let numa = config.numa.as_ref().unwrap();
    assert_eq!(numa.vcpus, [0, 0, 1, 1]);
    assert_eq!(config.backends[0].guest_node, 1);
    let place = config.place(3);
    assert_eq!((place.socket, place.core, place.node), (1, 1, Some(1)));
}

#[test]
fn pins_the_vcpus_of_nodes() {
    let pinned = |line: &str| {
        let cpus = config(line).unwrap().host_cpus;
        cpus.iter()
            .map(|(vcpu, cpus)| format!("{vcpu}: {cpus}"))
            .collect::<Vec<_>>()
    };
    assert_eq!(pinned("-smp 2"), Vec::<String>::new());
    // The only node has all vCPUs and all RAM without saying.
    assert_eq!(
        pinned("-smp 2 -numa node,host-cpus=0-1,,4"),
        ["0: 0-1,4", "1: 0-1,4"]
    );
    let two = format!("{M} -smp 3 -numa node,cpus=0,cpus=2,memdev=m,host-cpus=5 -numa node,cpus=1");
    assert_eq!(pinned(&two), ["0: 5", "2: 5"]);
    assert_eq!(
        text(&format!("{M} -numa node,cpus=0 -numa node,memdev=m,host-cpus=0")),
        "-numa node,nodeid=1,host-cpus= is for the node's vCPUs, and it has none"
    );
}

#[test]
fn has_checked_each_backend() {
    for line in [
        "-m 4097K".to_owned(),
        format!("{M},prealloc=on,reserve=off -numa node,memdev=m"),
        format!("{M},reserve=off -numa node,memdev=m -mem-prealloc"),
        format!("{M},merge=on,share=on -numa node,memdev=m"),
        "-object memory-backend-memfd,id=m,size=512M,hugetlb=on,merge=on -numa node,memdev=m".to_owned(),
        "-object memory-backend-memfd,id=m,size=3M,hugetlb=on -numa node,memdev=m".to_owned(),
        "-object memory-backend-ram,id=m,size=0 -numa node,memdev=m".to_owned(),
    ] {
        let error = config(&line).unwrap_err();
        assert!(
            matches!(error, Error::Memory(MemoryError::Backend(_))),
            "{line}: {error}"
        );
    }
}

#[test]
fn gives_the_terminal_to_one() {
    assert!(matches!(
        config("-serial stdio -monitor stdio"),
        Err(Error::StdioTwice { .. })
    ));
    let config = config("-monitor stdio").unwrap();
    assert_eq!(
        (config.serial.clone(), config.monitor.clone()),
        (SerialSpec::None, MonitorSpec::Stdio)
    );
    assert!(config.is_attended());
}

#[test]
fn refuses_two_of_what_there_is_one() {
    assert_eq!(
        text("-device virtio-balloon-pci -device virtio-balloon-pci"),
        "-device virtio-balloon-pci was given 2 times, but there is only one balloon"
    );
    assert!(text("-serial none -serial none").contains("one serial port"));
    assert!(text("-monitor none -monitor none").contains("one monitor"));
    assert_eq!(
        text("-qmp unix:a -monitor unix:a"),
        "the socket 'a' is used twice"
    );
}

#[test]
fn gives_the_balloon_what_the_memory_allows() {
    let balloon = |line: &str| config(&format!("-m 512 {line}")).unwrap().balloon.unwrap();
    let all = balloon("-device virtio-balloon-pci,min=64M,initial=512M,page-poison=off");
    assert_eq!(
        (all.min, all.initial, all.page_poison),
        (ByteSize::mib(64), Some(ByteSize::mib(512)), false)
    );
    let plain = balloon("-device virtio-balloon-pci");
    assert_eq!(
        (plain.min, plain.initial, plain.page_poison),
        (ByteSize::default(), None, true)
    );
    let refused = |properties: &str| text(&format!("-m 512 -device virtio-balloon-pci,id=b,{properties}"));
    assert_eq!(
        refused("initial=513M"),
        "balloon 'b': initial=513 MiB is more than the guest's RAM of 512 MiB"
    );
    assert_eq!(
        refused("min=1G"),
        "balloon 'b': min=1 GiB is more than the guest's RAM of 512 MiB"
    );
    assert_eq!(
        refused("min=256M,initial=255M"),
        "balloon 'b': initial=255 MiB is below the floor, min=256 MiB"
    );
}

#[test]
fn has_free_pages_reported_unless_they_shall_stay() {
    let reporting = |line: &str| config(line).unwrap().balloon.unwrap().reporting;
    let device = "-device virtio-balloon-pci";
    assert_eq!(reporting(device), Reporting::On);
    assert_eq!(
        reporting(&format!("{device},free-page-reporting=off")),
        Reporting::Off("free-page-reporting=off".to_owned())
    );
    for (option, state) in [
        ("-mem-prealloc", "preallocated"),
        ("-overcommit mem-lock=on", "locked"),
        ("-overcommit mem-lock=on-fault", "locked"),
    ] {
        let Reporting::Off(why) = reporting(&format!("{device} {option}")) else {
            panic!("{option}: the memory would be given back")
        };
        assert!(why.contains(&format!("'ram' is {state}")), "{why}");
        let asked = format!("{device},free-page-reporting=on {option}");
        assert_eq!(reporting(&asked), Reporting::On);
    }
}

#[test]
fn takes_the_rest() {
    let config = config(
        "-name web -smp 4 -initrd i -append x -S -v -qmp unix:a,server,nowait -qmp unix:b -monitor unix:c \
         -serial file:l -device virtio-balloon-pci,id=b,deflate-on-oom=on",
    )
    .unwrap();
    assert_eq!(config.name.as_deref(), Some("web"));
    assert_eq!(
        (config.topology.vcpus(), config.start_paused, config.verbose),
        (4, true, true)
    );
    assert_eq!(config.boot.initrd, Some("i".into()));
    assert_eq!(
        config.qmp,
        [QmpSpec { path: "a".into() }, QmpSpec { path: "b".into() }]
    );
    assert_eq!(config.monitor, MonitorSpec::Unix("c".into()));
    assert_eq!(config.serial, SerialSpec::File("l".into()));
    let balloon = config.balloon.unwrap();
    assert_eq!((balloon.id.as_str(), balloon.deflate_on_oom), ("b", true));
}

#[test]
fn gives_devices_names_and_sources() {
    let line = "-device virtio-rng-pci,rng=r,id=rng1,max-bytes=64,period=500 -device virtio-rng -device virtio-rng-pci \
                -object rng-random,id=r,filename=/dev/hwrng -object rng-builtin,id=idle -device virtio-balloon-pci,id=rng2";
    let config = config(line).unwrap();
    let rngs: Vec<_> = (config.devices.iter())
        .filter_map(|device| {
            let DeviceSpec::Rng { spec, source } = device else {
                return None;
            };
            Some((spec, source))
        })
        .collect();
    let (spec, source) = rngs[0];
    assert_eq!(
        (spec.id.as_str(), spec.max_bytes, spec.period.as_millis()),
        ("rng1", Some(64), 500)
    );
    assert_eq!(source.entropy, Entropy::File("/dev/hwrng".into()));
    // Names that were given are not given again.
    let names = rngs.iter().map(|(spec, _)| spec.id.as_str());
    assert_eq!(names.collect::<Vec<_>>(), ["rng1", "rng0", "rng3"]);
    let (spec, source) = rngs[1];
    assert_eq!((spec.max_bytes, spec.period.as_millis()), (None, 65536));
    assert_eq!((&source.object, &source.entropy), (&None, &Entropy::Builtin));
    assert_eq!(
        config.warnings,
        ["the source 'idle' is not used: name it with -device virtio-rng-pci,rng="]
    );
}

#[test]
fn devices_have_names_of_their_own() {
    assert_eq!(
        text("-device virtio-rng-pci,id=a -device virtio-balloon-pci,id=a"),
        "two devices have the id 'a'"
    );
    assert!(text("-device virtio-rng-pci,rng=r").contains("there is no source of random bytes 'r'"));
    assert_eq!(
        text(&format!("-m 512 {M} -object rng-builtin,id=m")),
        "two objects have the id 'm'"
    );
    assert!(text("-object rng-builtin,id=m -machine memory-backend=m").contains("there is no backend 'm'"));
}

#[test]
fn gives_disks_their_drives() {
    let line = "-smp 2 -drive file=a,format=raw -drive file=b,format=raw,if=none,id=d,readonly=on \
                -device virtio-blk-pci,drive=d,serial=S,num-queues=3,id=disk0 -drive file=c,format=raw,if=none";
    let config = config(line).unwrap();
    let disks = config.devices.iter().map(|device| {
        let DeviceSpec::Blk { spec, drive } = device else {
            panic!("{device:?}")
        };
        (spec.id.as_str(), drive.id.as_str(), spec.queues, spec.read_only)
    });
    assert_eq!(
        disks.collect::<Vec<_>>(),
        [("disk0", "d", 3, true), ("disk1", "virtio0", 2, false)]
    );
    assert_eq!(config.warnings.len(), 1, "{:?}", config.warnings);
    assert!(
        config.warnings[0].contains("the drive 'virtio1' is not used"),
        "{:?}",
        config.warnings
    );
}

#[test]
fn a_drive_has_one_device() {
    let drive = "-drive file=a,format=raw,id=d";
    let twice = text(&format!("{drive} -device virtio-blk-pci,drive=d"));
    assert!(twice.contains("has two devices: with if=virtio"), "{twice}");
    assert_eq!(
        text(&format!(
            "{drive},if=none -device virtio-blk-pci,drive=d -device virtio-blk-pci,drive=d"
        )),
        "the drive 'd' has two devices"
    );
    assert!(text("-device virtio-blk-pci,drive=x").contains("there is no drive 'x'"));
    assert_eq!(text(&format!("{drive} {drive}")), "two drives have the id 'd'");
}

#[test]
fn gives_networks_their_cards() {
    let net = |id: &str| format!("-netdev tap,id={id},ifname=tap-{id},script=no");
    let (a, b, c) = (net("a"), net("b"), net("c"));
    let line = format!(
        "{a} {b} {c} -device virtio-net-pci,netdev=b -device virtio-net-pci,netdev=a,id=net0,mac=52:54:00:12:34:56"
    );
    let plan = config(&line).unwrap();
    let cards = plan.devices.iter().map(|device| {
        let DeviceSpec::Net { spec, interface, .. } = device else {
            panic!("{device:?}")
        };
        format!("{} {interface} {}", spec.id, spec.mac)
    });
    assert_eq!(
        cards.collect::<Vec<_>>(),
        ["net1 tap-b 52:54:00:12:34:57", "net0 tap-a 52:54:00:12:34:56"]
    );
    assert_eq!(plan.warnings.len(), 1);
    assert!(plan.warnings[0].contains("the network 'c' is not used"));

    assert!(text("-device virtio-net-pci,netdev=x").contains("there is no network 'x'"));
    let card = "-device virtio-net-pci,netdev=a";
    assert!(text(&format!("{a} {card} {card}")).contains("has two devices"));
    assert_eq!(text(&format!("{a} {a}")), "two networks have the id 'a'");
    let same = format!("{a} -netdev tap,id=z,ifname=tap-a,script=no");
    assert!(text(&same).contains("two networks have the interface 'tap-a'"));
}

#[test]
fn a_reset_is_the_end_where_that_was_said_last() {
    for (line, no_reboot) in [
        ("", false),
        ("-no-reboot", true),
        ("-action reboot=shutdown", true),
        ("-no-reboot -action reboot=reset", false),
        ("-action reboot=shutdown -action panic=none", true),
    ] {
        assert_eq!(config(line).unwrap().no_reboot, no_reboot, "{line}");
    }
    let paused = config("-action panic=none -action panic=pause").unwrap();
    assert_eq!(paused.on_panic, PanicAction::Pause);
}

#[test]
fn several_things_may_tell_of_panics() {
    let config = config("-device pvpanic-pci -device pvpanic-pci,id=p").unwrap();
    let id = |device: &DeviceSpec| matches!(device, DeviceSpec::PvPanic { id } if ["pvpanic0", "p"].contains(&id.as_str()));
    assert!(
        config.devices.len() == 2 && config.devices.iter().all(id),
        "{:?}",
        config.devices
    );
}

#[test]
fn the_terminal_is_shared_where_nothing_else_was_said() {
    for (line, serial, monitor) in [
        ("-nographic", SerialSpec::Stdio, MonitorSpec::Shared),
        ("-serial mon:stdio", SerialSpec::Stdio, MonitorSpec::Shared),
        ("-nographic -serial stdio", SerialSpec::Stdio, MonitorSpec::None),
        ("-nographic -monitor none", SerialSpec::Stdio, MonitorSpec::None),
        ("-nographic -monitor stdio", SerialSpec::None, MonitorSpec::Stdio),
        ("-nographic -serial none", SerialSpec::None, MonitorSpec::None),
    ] {
        let config = config(line).unwrap();
        assert_eq!((config.serial, config.monitor), (serial, monitor), "{line}");
    }
    assert!(matches!(
        config("-serial mon:stdio -monitor unix:m"),
        Err(Error::SharedAlone)
    ));
}

#[test]
fn a_daemon_has_no_terminal() {
    let daemon = config("-daemonize -pidfile p").unwrap();
    assert_eq!((daemon.serial, daemon.daemonize), (SerialSpec::None, true));
    assert_eq!(daemon.pid_file, Some("p".into()));
    for (line, option) in [
        ("-daemonize -serial stdio", "-serial stdio"),
        ("-daemonize -monitor stdio", "-monitor stdio"),
        ("-daemonize -nographic", "-nographic"),
    ] {
        assert!(text(line).contains(&format!("{option} is on it")), "{line}");
    }
}

#[test]
fn gives_daemons_their_devices() {
    let socket = |id: &str| format!("-chardev socket,id={id},path=/run/{id},reconnect=1");
    let line = format!(
        "-smp 2 {} {} {} -netdev vhost-user,id=n,chardev=b -device vhost-user-blk-pci,chardev=a \
         -device virtio-net-pci,netdev=n,host_mtu=1400",
        socket("a"),
        socket("b"),
        socket("c")
    );
    let plan = config(&line).unwrap();
    let daemons = plan.devices.iter().map(|device| {
        let DeviceSpec::VhostUser {
            spec,
            chardev,
            netdev,
        } = device
        else {
            panic!("{device:?}")
        };
        assert_eq!(spec.reconnect, Some(Duration::from_secs(1)));
        (
            spec.id.as_str(),
            chardev.id.as_str(),
            netdev.as_deref(),
            spec.queues,
        )
    });
    assert_eq!(
        daemons.collect::<Vec<_>>(),
        [("vdisk0", "a", None, 2), ("net0", "b", Some("n"), 2)]
    );
    assert_eq!(plan.warnings.len(), 1);
    assert!(plan.warnings[0].contains("the chardev 'c' is not used"));

    let (a, blk) = (socket("a"), "-device vhost-user-blk-pci,chardev=a");
    assert!(text(blk).contains("there is no chardev 'a'"));
    assert!(text(&format!("-chardev null,id=a {blk}")).contains("no chardev 'a' of the kind socket"));
    assert!(
        text("-netdev vhost-user,id=n,chardev=a -device virtio-net-pci,netdev=n").contains("no chardev 'a'")
    );
    assert!(text(&format!("{a} {blk} {blk}")).contains("'a' has two devices"));
    assert_eq!(text(&format!("{a} {a} {blk}")), "two chardevs have the id 'a'");
}

#[test]
fn a_console_takes_the_terminal_where_nobody_else_asked_for_it() {
    let console = "-chardev stdio,id=c -device virtio-serial-pci -device virtconsole,chardev=c";
    let of = |line: &str| {
        let config = config(line).unwrap();
        let console = config.devices.iter().find_map(|device| {
            let DeviceSpec::Console(console) = device else {
                return None;
            };
            Some((console.id.clone(), console.port.clone(), console.to.clone()))
        });
        (console.unwrap(), config.serial.clone(), config.guest_has_stdio())
    };
    let named = ("serial0".to_owned(), "console0".to_owned(), SerialSpec::Stdio);
    assert_eq!(of(console), (named.clone(), SerialSpec::None, true));
    let file = format!("{console} -serial file:l");
    assert_eq!(of(&file), (named, SerialSpec::File("l".into()), true));
    let log = "-chardev file,id=c,path=o -device virtio-serial-pci,id=s -device virtconsole,chardev=c,id=p";
    let logged = ("s".to_owned(), "p".to_owned(), SerialSpec::File("o".into()));
    assert_eq!(of(log), (logged, SerialSpec::Stdio, true));
    for (wrong, says) in [
        (
            format!("{console} -serial stdio"),
            "-serial stdio and -chardev stdio cannot share",
        ),
        (
            format!("{console} -nographic"),
            "-nographic and -chardev stdio cannot share",
        ),
        (
            format!("{console} -monitor stdio"),
            "-monitor stdio and -chardev stdio cannot share",
        ),
        (
            "-device virtconsole,chardev=c".to_owned(),
            "needs a -device virtio-serial-pci",
        ),
        ("-device virtio-serial-pci".to_owned(), "needs its console"),
        (
            "-device virtio-serial-pci -device virtconsole,chardev=c".to_owned(),
            "-chardev stdio,id=c defines it",
        ),
        (
            "-chardev socket,id=c,path=s -device virtio-serial-pci -device virtconsole,chardev=c".to_owned(),
            "there is no chardev 'c' of the kind stdio, file or null",
        ),
        (
            format!("{console} -device virtio-serial-pci,id=x"),
            "one virtio-serial-pci",
        ),
        (
            format!("{console} -chardev null,id=c"),
            "two chardevs have the id 'c'",
        ),
        (
            format!("{console} -device virtio-rng-pci,id=c0 -device virtio-blk-pci,id=c0,drive=d"),
            "two devices",
        ),
    ] {
        let error = text(&wrong);
        assert!(error.contains(says), "{wrong}: {error}");
    }
    let unused = config("-chardev null,id=n").unwrap();
    assert!(
        unused.warnings[0].contains("the chardev 'n' is not used"),
        "{:?}",
        unused.warnings
    );
}

#[test]
fn a_guest_has_one_socket_device() {
    let vsock = "-device virtio-vsock-pci,guest-cid=7,socket=v";
    let plan = config(vsock).unwrap();
    let [DeviceSpec::Vsock { spec, socket }] = &plan.devices[..] else {
        panic!("{:?}", plan.devices);
    };
    assert_eq!((spec.id.as_str(), spec.guest_cid), ("vsock0", 7));
    assert_eq!(socket.to_str(), Some("v"));
    let twice = text(&format!("{vsock} -device vhost-vsock-pci,guest-cid=8,socket=w"));
    assert!(twice.contains("given 2 times"), "{twice}");
}
