use std::io::{pipe, sink};

use super::*;

const SOON: Duration = Duration::from_secs(5);

#[test]
fn marks_are_found_in_order_and_once() {
    let (reader, mut writer) = pipe().unwrap();
    let mut console = Console::new(sink(), reader);
    writer.write_all(b"one ready two ready\n").unwrap();
    console.wait_for("ready", SOON).unwrap();
    console.wait_for("two", SOON).unwrap();
    console.wait_for("ready", SOON).unwrap();
    assert!(
        console
            .wait_for("ready", Duration::from_millis(20))
            .unwrap_err()
            .is_timeout()
    );
}

#[test]
fn lines_are_whole() {
    let (reader, mut writer) = pipe().unwrap();
    let mut console = Console::new(sink(), reader);
    writer.write_all(b"noise\r\nnumber 1").unwrap();
    let number = |line: &str| line.strip_prefix("number ").map(str::to_owned);
    assert!(
        console
            .wait_line("a number", Duration::from_millis(20), number)
            .is_err()
    );
    writer.write_all(b"2\r\n").unwrap();
    assert_eq!(console.wait_line("a number", SOON, number).unwrap(), "12");
}

#[test]
fn an_end_is_told_with_what_was_seen() {
    let (reader, mut writer) = pipe().unwrap();
    let mut console = Console::new(sink(), reader);
    writer.write_all(b"last words").unwrap();
    drop(writer);
    let error = console.wait_for("ready", SOON).unwrap_err().to_string();
    assert!(error.contains("last words") && error.contains("ended"), "{error}");
}
