use std::error::Error as _;
use std::os::unix::ffi::OsStringExt;

use proptest::prelude::*;

use super::*;
use crate::cli::properties::FAMILIES;

fn words(line: &[&str]) -> Vec<OsString> {
    ["ballast", "run"]
        .iter()
        .chain(line)
        .map(OsString::from)
        .collect()
}

fn args(line: &[&str]) -> Args {
    let Command::Run(args) = parse(words(line)).unwrap() else {
        panic!("another command")
    };
    args
}

/// The whole chain, as the program prints it.
fn error(line: &[&str]) -> String {
    let error = parse(words(line)).unwrap_err();
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

fn help_text(line: &[&str]) -> String {
    let Command::Help(text) = parse(line.iter().map(OsString::from)).unwrap() else {
        panic!("another command")
    };
    text
}

#[test]
fn takes_every_spelling() {
    let expected = args(&["-mem-path", "/x", "-m", "512", "-S"]);
    assert_eq!(expected.mem_path, Some("/x".into()));
    assert_eq!(expected.memory, Some(ByteSize::mib(512)));
    assert!(expected.start_paused);
    assert_eq!(args(&["--mem-path", "/x", "--m", "512", "--S"]), expected);
    assert_eq!(args(&["--mem-path=/x", "--m=size=512", "-S"]), expected);
    assert_eq!(args(&["-m", "size=512M", "-mem-path", "/x", "-S"]), expected);
}

#[test]
fn never_takes_a_value_for_an_option() {
    let args = args(&[
        "-append", "-S", "-kernel", "-m", "-initrd", "--name=x", "-name", "--",
    ]);
    assert_eq!(args.append.as_deref(), Some("-S"));
    assert_eq!(args.kernel, Some("-m".into()));
    assert_eq!(args.initrd, Some("--name=x".into()));
    assert_eq!(args.name.as_deref(), Some("--"));
    assert!(!args.start_paused);
    assert_eq!(args.memory, None);
}

#[test]
fn takes_bytes_that_are_no_utf8_in_a_path() {
    let path = OsString::from_vec(b"/k\xff".to_vec());
    let mut line = words(&["-kernel"]);
    line.push(path.clone());
    let Command::Run(args) = parse(line).unwrap() else {
        panic!("no run")
    };
    assert_eq!(args.kernel, Some(path.into()));
    let mut line = words(&[]);
    line.push(OsString::from_vec(b"-\xff".to_vec()));
    parse(line).unwrap_err();
}

#[test]
fn the_last_of_a_repeated_option_holds_and_lists_grow() {
    let args = args(&[
        "-m", "1G", "-m", "2G", "-qmp", "unix:/a", "-qmp", "unix:/b", "-append", "a", "-append", "b", "-S",
        "-S",
    ]);
    assert_eq!(args.memory, Some(ByteSize::gib(2)));
    assert_eq!(args.qmp.len(), 2);
    assert_eq!(args.append.as_deref(), Some("b"));
}

#[test]
fn accepts_the_habits_of_qemu() {
    let line = "-enable-kvm -cpu host -nodefaults -nographic -no-reboot -display none -vga none -msg timestamp=on \
                -accel kvm -M q35,accel=kvm -machine microvm -name guest=a,debug-threads=on";
    let args = args(&line.split_whitespace().collect::<Vec<_>>());
    assert!(args.habits.enable_kvm);
    assert_eq!(args.machine.len(), 2);
    assert!(error(&["-cpu", "qemu64"]).starts_with("-cpu qemu64: there is no model 'qemu64', only host"));
    assert!(error(&["-display", "gtk"]).contains("accepted: none"));
}

#[test]
fn says_what_is_wrong_and_what_is_near() {
    assert_eq!(
        error(&["-mem-pth", "/x"]),
        "unknown option '-mem-pth', did you mean '-mem-path'?; 'ballast run --help' lists the options"
    );
    assert!(error(&["-hda", "x.img"]).starts_with("unknown option '-hda'"));
    assert!(error(&["x.img"]).starts_with("'x.img' belongs to no option"));
    assert!(error(&["-"]).starts_with("'-' belongs to no option"));
    assert!(error(&["--"]).starts_with("'--' belongs to no option"));
    assert!(error(&["-m=512"]).starts_with("unknown option '-m=512'"));
    assert_eq!(error(&["-m"]), "option '-m' needs a value ([size=]SIZE)");
    assert_eq!(error(&["--S=on"]), "option '-S' takes no value");
    assert!(
        error(&["-m", "12x"]).starts_with("-m 12x: size=12x"),
        "{}",
        error(&["-m", "12x"])
    );
    assert!(error(&["-m", ""]).contains("-m needs 'size=…'"));
    assert_eq!(
        error(&["-object", "memory-backend-ram,id=a,sise=1G"]),
        "-object memory-backend-ram,id=a,sise=1G: memory-backend-ram has no property 'sise', did you mean 'size'?; \
         it has: id, size, share, reserve, prealloc, prealloc-threads, merge, dump, thp, lock, host-nodes, policy, \
         strict"
    );
    assert!(parse(["ballast".into()]).is_err());
    assert!(parse([]).is_err());
    let error = parse(["ballast".into(), "-m".into()]).unwrap_err().to_string();
    assert!(
        error.starts_with("'-m' is not a command; 'ballast run …'"),
        "{error}"
    );
}

#[test]
fn asks_for_help_and_version() {
    for line in [
        vec!["ballast", "--help"],
        vec!["ballast", "-h"],
        vec!["ballast", "help"],
    ] {
        assert!(help_text(&line).contains("ballast run OPTIONS"));
    }
    for line in [
        vec!["ballast", "run", "--help"],
        vec!["ballast", "run", "-S", "-h"],
        vec!["ballast", "help", "run"],
    ] {
        assert!(help_text(&line).contains("-mem-path PATH"));
    }
    for line in [vec!["ballast", "--version"], vec!["ballast", "run", "-version"]] {
        assert!(matches!(
            parse(line.iter().map(OsString::from)),
            Ok(Command::Version)
        ));
    }
}

#[test]
fn every_option_is_in_the_help_with_its_default() {
    let help = help_text(&["ballast", "run", "--help"]);
    let mut count = 0;
    for option in options().get_arguments() {
        let name = option.get_long().unwrap();
        let aliases = option.get_all_aliases().unwrap_or_default();
        for name in aliases.iter().copied().chain([name]) {
            let there = [" ", "\n", ","]
                .iter()
                .any(|end| help.contains(&format!("-{name}{end}")));
            assert!(there, "{name}");
        }
        let text = option
            .get_help()
            .unwrap_or_else(|| panic!("{name} has no help"))
            .to_string();
        assert!(
            text.contains("default: ") || text.ends_with("required"),
            "{name}: {text}"
        );
        assert!(help.contains(&text), "{name}");
        assert!(
            !spelling::takes_value(option) || !spelling::value_name(option).is_empty(),
            "{name}"
        );
        assert!(option.get_help_heading().is_some(), "{name}");
        count += 1;
    }
    assert!(count > 20);
}

#[test]
fn every_property_is_in_the_help_and_is_accepted() {
    let help = help_text(&["ballast", "run", "--help"]);
    for family in FAMILIES {
        for property in family.properties() {
            let line = property.describe();
            assert!(help.contains(&line), "{line}");
            for part in [
                property.name,
                property.values,
                property.help,
                property.unit,
                property.default,
            ] {
                assert!(line.contains(part), "{line}: {part}");
            }
            // What the others of the family need to be accepted together with this one.
            let (start, needed) = match family.owner {
                "memory-backend-file" => (
                    "memory-backend-file,",
                    "id=i,size=4096,mem-path=/x,host-nodes=0,policy=bind,",
                ),
                "memory-backend-memfd" => (
                    "memory-backend-memfd,",
                    "id=i,size=4096,hugetlb,host-nodes=0,policy=bind,",
                ),
                "memory-backend-ram" => ("memory-backend-ram,", "id=i,size=4096,host-nodes=0,policy=bind,"),
                "virtio-balloon-pci" => ("virtio-balloon-pci,", ""),
                "virtio-blk-pci" => ("virtio-blk-pci,", "drive=d,"),
                "virtio-net-pci" => ("virtio-net-pci,", "netdev=n,"),
                "tap" => ("tap,", "id=n,ifname=tap0,script=no,"),
                "vhost-user" => ("vhost-user,", "id=n,chardev=c,"),
                "vhost-user-blk-pci" => ("vhost-user-blk-pci,", "chardev=c,"),
                "socket" => ("socket,", "id=c,path=/x,"),
                "-drive" => ("", "file=x,format=raw,"),
                "virtio-rng-pci" => ("virtio-rng-pci,", ""),
                "pvpanic-pci" => ("pvpanic-pci,", ""),
                "virtio-serial-pci" => ("virtio-serial-pci,", ""),
                "virtconsole" => ("virtconsole,", "chardev=c,"),
                "virtio-vsock-pci" => ("virtio-vsock-pci,", "guest-cid=3,socket=v,"),
                "stdio" => ("stdio,", "id=c,"),
                "file" => ("file,", "id=c,path=/x,"),
                "null" => ("null,", "id=c,"),
                "rng-random" => ("rng-random,", "id=r,"),
                "rng-builtin" => ("rng-builtin,", ""),
                "node" => ("node,", ""),
                "dist" => ("dist,", "src=0,dst=1,val=20,"),
                "cpu" => ("cpu,", "node-id=0,socket-id=0,"),
                "unix:PATH" => ("unix:/x,", ""),
                "-name" => ("x,", ""),
                "-cpu" => ("host,", ""),
                _ => ("", ""),
            };
            let value = format!("{start}{needed}{}={}", property.name, property.sample);
            parse(words(&[&format!("-{}", family.option), &value]))
                .unwrap_or_else(|e| panic!("{value}: {e:?}"));
        }
    }
}

#[test]
fn every_example_makes_a_machine() {
    for (_, line) in help::EXAMPLES {
        let Command::Run(args) = parse(line.split_whitespace().map(OsString::from)).unwrap() else {
            panic!("{line}")
        };
        crate::config::Config::new(args).unwrap_or_else(|error| panic!("{line}: {error}"));
    }
}

proptest! {
    #[test]
    fn no_words_make_it_panic(line in proptest::collection::vec("-{0,2}[a-zA-Z=,-]{0,12}|\\PC{0,16}", 0..6)) {
        let _ = parse(line.into_iter().map(OsString::from));
    }

    #[test]
    fn no_value_makes_it_panic(option in 0_usize..32, value in "([a-z-]{1,20}[=,]){0,4}\\PC{0,12}") {
        let options = options();
        if let Some(option) = options.get_arguments().nth(option) {
            let _ = parse(words(&[&format!("-{}", option.get_long().unwrap()), &value]));
        }
    }

    #[test]
    fn any_word_can_be_a_value(value in "\\PC{0,24}") {
        prop_assert_eq!(args(&["-append", &value, "-S"]).append.unwrap(), value);
    }
}
