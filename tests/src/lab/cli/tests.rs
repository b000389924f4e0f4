use super::*;

fn parse(line: &str) -> Result<Request> {
    Request::parse(line.split_whitespace().map(OsString::from))
}

#[test]
fn commands_are_read() {
    assert_eq!(parse("demo").unwrap(), Request::Demo);
    assert_eq!(
        parse("test").unwrap(),
        Request::Test {
            long: false,
            filter: None
        }
    );
    assert_eq!(
        parse("test boot --long").unwrap(),
        Request::Test {
            long: true,
            filter: Some("boot".into())
        }
    );
    assert_eq!(
        parse("run -- -m 64").unwrap(),
        Request::Run(vec!["-m".into(), "64".into()])
    );
    assert_eq!(parse("shell").unwrap(), Request::Shell(vec![]));
}

#[test]
fn what_makes_no_sense_is_refused() {
    for line in ["", "dmeo", "demo now", "test a b", "test --lnog", "run -m 64"] {
        let error = parse(line).unwrap_err();
        assert_eq!(error.code(), 2, "{line}: {error}");
    }
}
