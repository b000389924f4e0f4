use std::process::{Child, Command};

use super::*;
use crate::harness::terminal;

const SOON: Duration = Duration::from_secs(20);

/// A shell on a terminal, whose prompt is root's.
fn shell() -> (Child, Shell<std::fs::File>) {
    let (ours, theirs) = terminal::open().unwrap();
    let mut command = Command::new("sh");
    command.arg("-i").env("PS1", "# ").env_remove("ENV");
    command.stdin(theirs.try_clone().unwrap());
    command.stdout(theirs.try_clone().unwrap()).stderr(theirs);
    let child = command.spawn().unwrap();
    let console = Console::new(ours.try_clone().unwrap(), ours);
    (child, Shell::prompted(console, SOON).unwrap())
}

#[test]
fn commands_answer_one_after_the_other() {
    let (mut child, mut shell) = shell();
    assert_eq!(shell.exec("echo one; echo two", SOON).unwrap(), "one\ntwo\n");
    assert_eq!(shell.exec("printf 'no end'", SOON).unwrap(), "no end");
    assert_eq!(shell.exec("true", SOON).unwrap(), "");
    shell.leave("exit").unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_failure_is_told_with_its_output() {
    let (mut child, mut shell) = shell();
    let error = shell.exec("echo why; (exit 7)", SOON).unwrap_err();
    let Error::Agent { status, output, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!((*status, output.as_str()), (7, "why\n"));
    shell.leave("exit").unwrap();
    child.wait().unwrap();
}
