use proptest::prelude::*;

use super::*;

fn pairs(text: &str, implied: Option<&str>) -> Vec<(String, String)> {
    split(text, implied).unwrap()
}

fn owned(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

#[test]
fn splits_as_qemu_does() {
    assert_eq!(pairs("a=1,b=2", None), owned(&[("a", "1"), ("b", "2")]));
    assert_eq!(pairs("first,b", Some("k")), owned(&[("k", "first"), ("b", "on")]));
    assert_eq!(
        pairs("a=x,,y,,,b=,c==d", None),
        owned(&[("a", "x,y,"), ("b", ""), ("c", "=d")])
    );
    assert_eq!(
        pairs("/a,,b,server", Some("path")),
        owned(&[("path", "/a,b"), ("server", "on")])
    );
    assert_eq!(pairs("path=/x", Some("path")), owned(&[("path", "/x")]));
    assert_eq!(pairs("a=1,", None), owned(&[("a", "1")]));
    assert_eq!(pairs("", Some("k")), owned(&[]));
    assert_eq!(split("=1", None), Err(ValueError::EmptyName));
    assert_eq!(split("a=1,,b", None).unwrap(), owned(&[("a", "1,b")]));
    assert_eq!(split(",a", None), Err(ValueError::EmptyName));
}

#[test]
fn knows_the_words_for_on_and_off() {
    for (words, expected) in [
        (["on", "yes", "true", "y"], true),
        (["off", "no", "false", "n"], false),
    ] {
        for word in words {
            assert_eq!(switch("x", word), Ok(expected));
        }
    }
    let error = switch("share", "ON").unwrap_err().to_string();
    assert!(error.starts_with("share=ON: expected on or off"), "{error}");
}

proptest! {
    #[test]
    fn what_is_joined_with_doubled_commas_comes_back(
        expected in proptest::collection::vec(("[a-z][a-z-]{0,8}", "[ -~é]{0,12}"), 1..6)
    ) {
        let text: Vec<String> =
            expected.iter().map(|(key, value)| format!("{key}={}", value.replace(',', ",,"))).collect();
        // A value may end in a doubled comma, which only the separator after it would make ambiguous to a reader.
        prop_assert_eq!(split(&text.join(","), None).unwrap(), expected);
    }

    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,64}", implied in proptest::option::of("[a-z]{1,4}")) {
        let _ = split(&text, implied.as_deref());
    }
}
