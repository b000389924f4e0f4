use super::*;
use crate::virtio::vsock::packet::{Op, STREAM};

fn says(room: u32, forwarded: u32) -> Header {
    Header {
        from_cid: 3,
        to_cid: 2,
        from_port: 1,
        to_port: 1,
        len: 0,
        kind: STREAM,
        op: Some(Op::CreditUpdate),
        flags: 0,
        room,
        forwarded,
    }
}

#[test]
fn the_guest_gets_what_it_has_room_for() {
    let mut credit = Credit::default();
    assert_eq!(credit.may_send(), 0, "it has said nothing");
    credit.hear(&says(100, 0));
    credit.send(60);
    assert_eq!(credit.may_send(), 40);
    credit.hear(&says(100, 50));
    assert_eq!(credit.may_send(), 90);
    // A smaller buffer than what is under way, and more forwarded than was ever sent.
    credit.hear(&says(5, 50));
    assert_eq!(credit.may_send(), 0);
    credit.hear(&says(100, 61));
    assert_eq!(credit.may_send(), 0);
}

#[test]
fn counts_wrap() {
    let mut credit = Credit::default();
    let mut forwarded = Wrapping(0_u32);
    for _ in 0..=(1 << 17) {
        credit.hear(&says(40_000, forwarded.0));
        credit.send(40_000);
        assert_eq!(credit.may_send(), 0);
        forwarded += 40_000;
        assert!(credit.receive(40_000));
        credit.forward(40_000);
    }
    credit.hear(&says(40_000, forwarded.0));
    assert_eq!(credit.may_send(), 40_000);
    assert_eq!(credit.tell(), (BUFFER, forwarded.0));
}

#[test]
fn a_guest_may_fill_the_buffer_and_no_more() {
    let mut credit = Credit::default();
    let half = usize::try_from(BUFFER / 2).unwrap();
    assert!(credit.receive(half) && credit.receive(half));
    assert!(!credit.receive(1));
    assert!(!credit.has_news());
    credit.forward(half);
    assert!(credit.has_news(), "else it would wait for ever");
    assert_eq!(credit.tell(), (BUFFER, BUFFER / 2));
    assert!(!credit.has_news());
    assert!(!credit.receive(half + 1));
    assert!(credit.receive(half));
}
