use super::*;

#[test]
fn a_line_a_second_tells_how_many_were_left_out() {
    let start = Instant::now();
    let at = |ms| start + Duration::from_millis(ms);
    let mut limit = LogLimit::default();
    let mut told = |ms| limit.pass(at(ms)).map(|left_out| left_out.to_string());
    assert_eq!(told(0).as_deref(), Some(""));
    for ms in 0..1000 {
        assert_eq!(told(ms), None, "{ms}");
    }
    let left_out = " (1000 such lines were left out before)";
    assert_eq!(told(1000).as_deref(), Some(left_out));
    assert_eq!(told(1999), None);
    assert_eq!(
        told(5000).as_deref(),
        Some(" (1 such lines were left out before)")
    );
    assert_eq!(told(6000).as_deref(), Some(""));
}
