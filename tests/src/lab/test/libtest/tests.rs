use super::*;

#[test]
fn lines_of_test_programs_are_read() {
    let passed = parse("test a::b ... ok <0.250s>\n").unwrap();
    assert_eq!(
        (passed.name.as_str(), &passed.verdict),
        ("a::b", &Verdict::Passed)
    );
    assert_eq!(passed.took, Some(Duration::from_millis(250)));
    assert_eq!(
        parse("test x - should panic ... FAILED").unwrap().verdict,
        Verdict::Failed
    );
    assert_eq!(
        parse("test x ... ignored, needs the lab: cargo lab test")
            .unwrap()
            .verdict,
        Verdict::Ignored
    );
    for line in [
        "running 3 tests",
        "test result: ok. 3 passed; 0 failed",
        "test x ... ",
    ] {
        assert_eq!(parse(line), None, "{line}");
    }
}

#[test]
fn the_test_that_hung_is_named() {
    assert_eq!(
        unfinished("running 2 tests\ntest a ... ok\ntest b ... "),
        Some("b")
    );
    assert_eq!(unfinished("running 1 test\ntest a ... ok\n"), None);
}
