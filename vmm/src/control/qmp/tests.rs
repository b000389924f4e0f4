use proptest::prelude::*;

use super::*;

/// Everything in `input`, as `(command, id)` or the text of the failure.
fn all(parser: &mut Parser, mut input: &[u8]) -> Vec<Result<(String, Option<Value>), String>> {
    std::iter::from_fn(|| parser.next(&mut input))
        .map(|incoming| match incoming {
            Incoming::Request(request) => Ok((request.command, request.id)),
            Incoming::Malformed { failure, .. } => Err(failure.desc.into_owned()),
            Incoming::Fatal(failure) => Err(format!("fatal: {}", failure.desc)),
        })
        .collect()
}

fn once(input: &str) -> Vec<Result<(String, Option<Value>), String>> {
    all(&mut Parser::default(), input.as_bytes())
}

fn wrong(input: &str) -> String {
    match &once(input)[..] {
        [Err(text)] => text.clone(),
        other => panic!("{input}: {other:?}"),
    }
}

#[test]
fn several_requests_in_one_read_and_one_in_several() {
    let stop = || Ok(("stop".to_owned(), None));
    assert_eq!(
        once(r#"{"execute":"stop"}{"execute":"stop"} {"execute":"stop"}"#),
        [stop(), stop(), stop()]
    );
    assert_eq!(once("{\r\n\t\"execute\"\n:\n\"stop\"\n}"), [stop()]);
    let mut parser = Parser::default();
    assert!(all(&mut parser, br#"{"execute":"st"#).is_empty());
    assert_eq!(all(&mut parser, br#"op"}{"#), [stop()]);
    assert_eq!(all(&mut parser, br#""execute":"stop"}"#), [stop()]);
}

#[test]
fn strings_may_hold_anything_and_have_single_quotes() {
    assert_eq!(
        once(r#"{"execute":"a}\"{[\\"}"#),
        [Ok((r#"a}"{[\"#.to_owned(), None))]
    );
    assert_eq!(
        once("{'execute':'qmp_capabilities'}"),
        [Ok(("qmp_capabilities".to_owned(), None))]
    );
    assert_eq!(
        once(r#"{'execute':'say "it\'s"'}"#),
        [Ok(("say \"it's\"".to_owned(), None))]
    );
    assert_eq!(
        once(r#"{"execute":"it\'s 'so'"}"#),
        [Ok(("it's 'so'".to_owned(), None))]
    );
}

#[test]
fn the_id_comes_back_whatever_it_is() {
    for id in [
        json!(1),
        json!("x"),
        json!(null),
        json!([1, {"a": 2}]),
        json!({"b": 1.5}),
    ] {
        let input = json!({ "execute": "stop", "id": id }).to_string();
        assert_eq!(once(&input), [Ok(("stop".to_owned(), Some(id.clone())))]);
        let mut parser = Parser::default();
        let input = json!({ "execute": 1, "id": id }).to_string();
        let Some(Incoming::Malformed { id: found, .. }) = parser.next(&mut input.as_bytes()) else {
            panic!()
        };
        assert_eq!(found, Some(id.clone()));
        assert_eq!(reply(Ok(json!({})), Some(id.clone()))["id"], id);
    }
    assert_eq!(reply(Ok(json!({})), None), json!({ "return": {} }));
}

#[test]
fn says_what_is_wrong_as_qemu_does() {
    assert_eq!(wrong("garbage\n"), "JSON parse error, invalid keyword 'garbage'");
    assert_eq!(wrong("12\n"), "QMP input must be a JSON object");
    assert_eq!(wrong("[1]"), "QMP input must be a JSON object");
    assert_eq!(wrong("\"text\""), "QMP input must be a JSON object");
    assert_eq!(wrong("}"), "JSON parse error, expecting value");
    assert_eq!(wrong("{}"), "QMP input lacks member 'execute'");
    assert_eq!(wrong(r#"{"a":1}"#), "QMP input member 'a' is unexpected");
    assert_eq!(
        wrong(r#"{"exec-oob":"stop"}"#),
        "QMP input member 'exec-oob' is unexpected"
    );
    assert_eq!(
        wrong(r#"{"execute":"stop","b":1}"#),
        "QMP input member 'b' is unexpected"
    );
    assert_eq!(
        wrong(r#"{"execute":1}"#),
        "QMP input member 'execute' must be a string"
    );
    assert_eq!(
        wrong(r#"{"execute":"stop","arguments":1}"#),
        "QMP input member 'arguments' must be an object"
    );
    assert!(wrong(r#"{"execute":"stop",}"#).starts_with("JSON parse error, "));
    assert!(wrong(r#"{"execute" "stop"}"#).starts_with("JSON parse error, "));
    assert!(wrong("{]").starts_with("JSON parse error, "));
}

#[test]
fn goes_on_after_nonsense() {
    let stop = Ok(("stop".to_owned(), None));
    for nonsense in [
        "garbage ",
        "\u{0}",
        "}",
        "{]",
        "{\"a\n",
        "{\"a\\\n",
        "\"\n",
        "[1]",
        "truefalse\n",
        ":",
        "{\"a\u{1}",
    ] {
        let found = once(&format!("{nonsense}{{\"execute\":\"stop\"}}"));
        assert!(found.len() >= 2, "{nonsense:?}: {found:?}");
        assert!(found[0].is_err(), "{nonsense:?}: {found:?}");
        assert_eq!(found.last(), Some(&stop), "{nonsense:?}");
    }
    // 0xff is what programs send to get a parser out of an unfinished object.
    let found = all(&mut Parser::default(), b"{ \xff{\"execute\":\"stop\"}");
    assert_eq!(found.last(), Some(&stop), "{found:?}");
}

#[test]
fn input_is_bounded() {
    let long = format!("{{\"execute\":\"{}\"}}", "x".repeat(framer::MAX_LENGTH));
    assert!(
        matches!(&once(&long)[0], Err(text) if text.starts_with("fatal: JSON parse error, the request is longer"))
    );
    let long = "x".repeat(framer::MAX_LENGTH + 1);
    assert!(matches!(&once(&long)[..], [Err(text)] if text.starts_with("fatal: ")));
    let fits = format!("{{\"execute\":\"{}\"}}", "x".repeat(framer::MAX_LENGTH - 14));
    assert!(once(&fits)[0].is_ok());
    let deep = "[".repeat(framer::MAX_DEPTH + 1);
    assert!(
        matches!(&once(&deep)[..], [Err(text)] if text.starts_with("fatal: JSON parse error, the request is nested"))
    );
    let id = format!(
        "{}{}",
        "[".repeat(framer::MAX_DEPTH - 1),
        "]".repeat(framer::MAX_DEPTH - 1)
    );
    assert!(once(&format!("{{\"execute\":\"stop\",\"id\":{id}}}"))[0].is_ok());
}

#[test]
fn writes_as_qemu_does() {
    let text = |value| String::from_utf8(encode(&value)).unwrap();
    assert_eq!(
        text(json!({ "return": { "a": [1, 2], "b": {} } })),
        "{\"return\": {\"a\": [1, 2], \"b\": {}}}\r\n"
    );
    let failure = Failure {
        class: Class::CommandNotFound,
        desc: "no".into(),
    };
    assert_eq!(
        text(reply(Err(failure), Some(json!(1)))),
        "{\"error\": {\"class\": \"CommandNotFound\", \"desc\": \"no\"}, \"id\": 1}\r\n"
    );
    assert_eq!(
        greeting()["QMP"]["version"]["qemu"],
        json!({ "major": 7, "minor": 2, "micro": 0 })
    );
    assert_eq!(greeting()["QMP"]["capabilities"], json!([]));
    assert!(version()["package"].as_str().unwrap().starts_with("ballast-"));
}

#[test]
fn checks_arguments_as_qemu_does() {
    let arguments = |value: Value| Arguments::new(value.as_object().unwrap().clone());
    let desc = |failure: Failure| failure.desc.into_owned();
    let mut all = arguments(json!({ "value": 5, "text": "t", "list": ["a"], "rest": 1 }));
    assert_eq!(all.integer("value"), Ok(5));
    assert_eq!(all.optional_integer("value"), Ok(None));
    assert_eq!(all.string("text"), Ok("t".to_owned()));
    assert_eq!(all.optional_strings("list"), Ok(vec!["a".to_owned()]));
    assert_eq!(
        desc(all.integer("value").unwrap_err()),
        "Parameter 'value' is missing"
    );
    assert_eq!(desc(all.finish().unwrap_err()), "Parameter 'rest' is unexpected");
    let expected = "Invalid parameter type for 'value', expected: integer";
    for value in [json!("5"), json!(1.5), json!(5.0), json!(null), json!(u64::MAX)] {
        assert_eq!(
            desc(arguments(json!({ "value": value })).integer("value").unwrap_err()),
            expected
        );
        assert_eq!(
            desc(
                arguments(json!({ "value": value }))
                    .optional_integer("value")
                    .unwrap_err()
            ),
            expected
        );
    }
    assert!(desc(arguments(json!({ "s": 1 })).string("s").unwrap_err()).ends_with("expected: string"));
    assert!(
        desc(arguments(json!({ "s": 1 })).optional_strings("s").unwrap_err()).ends_with("expected: array")
    );
    assert_eq!(arguments(json!({})).finish(), Ok(()));
}

fn id() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<i64>().prop_map(|n| json!(n)),
        ".{0,8}".prop_map(|s| json!(s))
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            proptest::collection::hash_map(".{0,4}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn requests_are_found_however_the_stream_is_cut(
        requests in proptest::collection::vec((".{0,12}", id()), 1..6),
        cut in 1_usize..40,
        gap in "[ \r\n\t]{0,2}",
    ) {
        let stream: String = requests
            .iter()
            .map(|(command, id)| json!({ "execute": command, "id": id }).to_string() + &gap)
            .collect();
        let mut parser = Parser::default();
        let found: Vec<_> = stream.as_bytes().chunks(cut).flat_map(|chunk| all(&mut parser, chunk)).collect();
        let expected: Vec<_> = requests.into_iter().map(|(command, id)| Ok((command, Some(id)))).collect();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn any_bytes_are_survived_and_cut_alike(bytes in proptest::collection::vec(
        prop_oneof![4 => proptest::sample::select(b"{}[]:,\"'\\ \ntrue19.".to_vec()), 1 => any::<u8>()], 0..200
    ), cut in 1_usize..20) {
        let whole = all(&mut Parser::default(), &bytes);
        let mut parser = Parser::default();
        let cut: Vec<_> = bytes.chunks(cut).flat_map(|chunk| all(&mut parser, chunk)).collect();
        prop_assert_eq!(&whole, &cut);
        // After a line end outside of brackets the parser is in step again.
        let mut parser = Parser::default();
        all(&mut parser, &bytes);
        all(&mut parser, b"\n\xff\xff\n");
        prop_assert_eq!(all(&mut parser, b"{\"execute\":\"stop\"}"), vec![Ok(("stop".to_owned(), None))]);
    }

    #[test]
    fn what_is_written_is_one_line_of_json(value in id()) {
        let line = encode(&value);
        prop_assert!(line.ends_with(b"\r\n"));
        prop_assert!(!line[..line.len() - 2].iter().any(|byte| *byte < b' '));
        prop_assert_eq!(serde_json::from_slice::<Value>(&line).unwrap(), value);
    }
}
