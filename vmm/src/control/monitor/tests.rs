use proptest::prelude::*;

use super::*;
use crate::control::event::Event;
use crate::control::testing::{NOBODY, fake};

/// The answer of a running machine with a balloon.
fn ask(line: &str) -> String {
    run(&mut fake(), line)
}

#[test]
fn answers_as_qemu_does() {
    assert_eq!(ask("info balloon"), "balloon: actual=64\n");
    assert_eq!(ask("info status"), "VM status: running\n");
    assert_eq!(ask("info kvm"), "kvm support: enabled\n");
    assert_eq!(ask("info name"), "web\n");
    let threads = format!("  CPU #0: thread_id={NOBODY}\n  CPU #1: thread_id={NOBODY}\n");
    assert_eq!(ask("info cpus"), threads);
    assert_eq!(ask(""), "");
    assert_eq!(ask("  \t "), "");
    assert_eq!(ask("foo"), "unknown command: 'foo'\n");
    assert_eq!(ask("info foo"), "unknown command: 'info foo'\n");
    assert_eq!(ask("help foo"), "unknown command: 'foo'\n");
    assert_eq!(
        ask("stop 3"),
        "stop|s: extraneous characters at the end of line\nTry \"help stop\" for more information\n"
    );
    assert_eq!(
        ask("balloon 100 3"),
        "balloon: extraneous characters at the end of line\nTry \"help balloon\" for more information\n"
    );
    assert!(ask("info status x").starts_with("status: extraneous characters"));
}

#[test]
fn every_command_has_help_and_is_there() {
    let help = ask("help");
    for command in COMMANDS {
        for name in command.names {
            assert!(!ask(name).starts_with("unknown command"), "{name}");
            let expected = if *name == "info" {
                ask("info")
            } else {
                describe(command, "")
            };
            assert_eq!(ask(&format!("help {name}")), expected);
        }
        assert!(help.contains(&describe(command, "")));
    }
    let infos = ask("info");
    for command in INFOS {
        let name = command.names[0];
        assert!(
            !ask(&format!("info {name}")).starts_with("unknown command"),
            "{name}"
        );
        assert_eq!(ask(&format!("help info {name}")), describe(command, "info "));
        assert!(infos.contains(&describe(command, "info ")));
    }
}

#[test]
fn the_balloon_takes_mib_or_a_suffix() {
    let mut target = fake();
    let wanted =
        |target: &crate::control::testing::Fake| target.balloon.as_ref().map(|balloon| balloon.target());
    for (line, mib) in [
        ("balloon 32", 32),
        ("balloon 16M", 16),
        ("balloon 666", 64),
        ("balloon 1G", 64),
    ] {
        assert_eq!(run(&mut target, line), "");
        assert_eq!(wanted(&target), Some(ByteSize::mib(mib)), "{line}");
    }
    let again = "Try \"help balloon\" for more information\n";
    assert_eq!(
        run(&mut target, "balloon"),
        format!("unexpected end of expression\n{again}")
    );
    assert_eq!(
        run(&mut target, "balloon -1"),
        format!("enter a positive value\n{again}")
    );
    assert!(run(&mut target, "balloon x").ends_with(again));
    let below = run(&mut target, "balloon 3");
    assert!(
        below.starts_with("Error: ") && below.contains("no less than 4 MiB"),
        "{below}"
    );
    assert!(run(&mut target, "info balloon -v").contains("\n  target: 64 MiB\n"));
    assert!(run(&mut target, "info balloon -x").contains("extraneous"));
    assert!(run(&mut target, "info guest-stats").contains("no statistics yet"));
    assert_eq!(
        run(&mut target, "balloon 0"),
        "Error: Parameter 'target' expects a size\n"
    );
    target.balloon = None;
    assert_eq!(
        run(&mut target, "balloon 4"),
        "Error: No balloon device has been activated\n"
    );
    assert_eq!(
        run(&mut target, "info balloon"),
        "Error: No balloon device has been activated\n"
    );
}

#[test]
fn the_machine_does_as_told() {
    let mut target = fake();
    assert_eq!(run(&mut target, "stop"), "");
    assert_eq!(run(&mut target, "info status"), "VM status: paused\n");
    assert_eq!(run(&mut target, "c"), "");
    assert_eq!(target.state, RunState::Running);
    target.state = RunState::Prelaunch;
    assert_eq!(run(&mut target, "info status"), "VM status: paused (prelaunch)\n");
    target.stuck = true;
    assert!(run(&mut target, "system_powerdown").starts_with("Error: "));
    assert!(run(&mut target, "s").starts_with("Error: "));
    assert_eq!(run(&mut target, "system_reset"), "");
    assert!(matches!(
        target.take_events().last(),
        Some(Event::Reset { guest: false, .. })
    ));
    assert_eq!(run(&mut target, "q"), "");
    assert_eq!(target.state, RunState::Shutdown);
}

#[test]
fn objects_come_and_go() {
    let mut target = fake();
    let again = "Try \"help object_add\" for more information\n";
    assert_eq!(
        run(&mut target, "object_add"),
        format!("object_add: missing argument\n{again}")
    );
    assert_eq!(
        run(&mut target, "object_add memory-backend-ram,id=more,size=2M"),
        ""
    );
    assert!(run(&mut target, "info memdev").contains("memory backend: more\n  size:  2097152\n"));
    assert_eq!(run(&mut target, "info prealloc"), "ram: none\nmore: none\n");
    let twice = run(&mut target, "object_add memory-backend-ram,id=more,size=2M");
    assert!(
        twice.starts_with("Error: attempt to add duplicate property 'more'"),
        "{twice}"
    );
    assert_eq!(run(&mut target, "object_del more"), "");
    assert_eq!(
        run(&mut target, "object_del more"),
        "Error: object 'more' not found\n"
    );
    assert_eq!(
        run(&mut target, "object_del ram"),
        "Error: object 'ram' is in use, can not be deleted\n"
    );
}

proptest! {
    #[test]
    fn no_line_makes_it_panic(line in "(help |info |balloon |)\\PC{0,24}") {
        prop_assert!(ask(&line).is_empty() || ask(&line).ends_with('\n'));
    }
}
