use proptest::prelude::*;

use super::*;

fn serial(bytes: &[u8]) -> Typed {
    Typed::Serial(bytes.to_vec())
}

#[test]
fn keys_are_the_guests_until_it_is_said_otherwise() {
    let mut keys = Keys::default();
    assert_eq!(keys.typed(b"ls\r\x03"), [serial(b"ls\r\x03")]);
    // Ctrl-A and its key may come apart.
    assert_eq!(keys.typed(b"a\x01"), [serial(b"a")]);
    assert_eq!(keys.typed(b"\x01b"), [serial(b"\x01b")]);
    assert_eq!(keys.typed(b"\x01h\x01q\x01x"), [Typed::Help, Typed::Quit]);
}

#[test]
fn the_monitor_gets_lines_that_were_edited() {
    let mut keys = Keys::default();
    assert_eq!(keys.typed(b"x\x01c"), [serial(b"x"), Typed::Focus]);
    let typed = keys.typed("inf\u{7f}x\u{15}stöp\r".as_bytes());
    let (mut lines, mut shown) = (Vec::new(), String::new());
    for typed in &typed {
        if let Typed::Monitor(line) = typed {
            lines.push(String::from_utf8_lossy(line).into_owned());
        }
        if let Typed::Echo(text) = typed {
            shown += text;
        }
    }
    assert_eq!(lines, ["stöp\n"]);
    assert_eq!(shown, "inf\u{8} \u{8}x\u{8} \u{8}\u{8} \u{8}\u{8} \u{8}stöp\n");
    // A line that was begun is forgotten.
    assert_eq!(keys.typed(b"qui\x01c").last(), Some(&Typed::Echo("i".to_owned())));
    assert_eq!(
        keys.typed(b"t\x01c\n"),
        [
            serial(b"t"),
            Typed::Focus,
            Typed::Echo("\n".to_owned()),
            Typed::Monitor(b"\n".to_vec())
        ]
    );
}

proptest! {
    #[test]
    fn nothing_typed_makes_it_panic(bytes: Vec<u8>) {
        let mut keys = Keys::default();
        keys.typed(b"\x01c");
        keys.typed(&bytes);
        prop_assert!(keys.line.len() <= MOST_LINE + 4 && keys.part.len() < 4);
    }
}
