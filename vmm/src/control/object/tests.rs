use serde_json::json;

use super::super::command::execute;
use super::super::testing::{Fake, fake};
use super::*;

fn run(target: &mut Fake, name: &str, arguments: Value) -> Result<Value, String> {
    let Value::Object(members) = arguments else {
        panic!("no arguments")
    };
    execute(target, name, Arguments::new(members)).map_err(|failure| failure.desc.into_owned())
}

#[test]
fn a_backend_comes_is_seen_and_goes() {
    let target = &mut fake();
    let add = json!({ "qom-type": "memory-backend-memfd", "id": "extra", "size": 8 << 20, "share": true,
        "host-nodes": [0], "policy": "preferred" });
    assert_eq!(run(target, "object-add", add.clone()), Ok(json!({})));
    assert_eq!(
        run(target, "object-add", add).unwrap_err(),
        "attempt to add duplicate property 'extra' to object (type 'container')"
    );
    let get = json!({ "path": "/objects/extra", "property": "size" });
    assert_eq!(run(target, "qom-get", get.clone()), Ok(json!(8 << 20)));
    let set = json!({ "path": "/objects/extra", "property": "dump", "value": false });
    assert_eq!(run(target, "qom-set", set), Ok(json!({})));
    let listed = run(target, "qom-list", json!({ "path": "/objects" })).unwrap();
    assert!(listed.to_string().contains("\"extra\""), "{listed}");
    let memdev = run(target, "query-memdev", json!({})).unwrap();
    assert_eq!(
        (&memdev[1]["id"], &memdev[1]["policy"]),
        (&json!("extra"), &json!("preferred"))
    );
    let prealloc = run(target, "x-ballast-query-prealloc", json!({})).unwrap();
    assert_eq!(prealloc[1]["state"], "none");

    assert_eq!(run(target, "object-del", json!({ "id": "extra" })), Ok(json!({})));
    assert!(run(target, "qom-get", get).unwrap_err().contains("not found"));
    for (id, expected) in [
        ("extra", "object 'extra' not found"),
        ("ram", "object 'ram' is in use, can not be deleted"),
    ] {
        assert_eq!(
            run(target, "object-del", json!({ "id": id })).unwrap_err(),
            expected
        );
    }
}

#[test]
fn what_makes_no_backend_is_refused() {
    let target = &mut fake();
    for (arguments, words) in [
        (json!({}), "Parameter 'qom-type' is missing"),
        (
            json!({ "qom-type": "memory-backend-ram" }),
            "Parameter 'id' is missing",
        ),
        (json!({ "qom-type": "memory-backend-ram", "id": "x" }), "size"),
        (
            json!({ "qom-type": "iothread", "id": "x" }),
            "unknown object type 'iothread'",
        ),
        (
            json!({ "qom-type": "memory-backend-ram", "id": "x", "size": 4096, "surplus": 1 }),
            "'surplus'",
        ),
        (
            json!({ "qom-type": "memory-backend-ram", "id": "x", "size": {} }),
            "Invalid parameter type for 'size'",
        ),
        (
            json!({ "qom-type": "memory-backend-ram", "id": "x", "size": -1 }),
            "-1",
        ),
        (
            json!({ "qom-type": "memory-backend-ram", "id": "x", "size": 5 }),
            "multiple",
        ),
        (
            json!({ "qom-type": "memory-backend-ram", "id": "ram", "size": 4096 }),
            "duplicate",
        ),
        (
            json!({ "qom-type": "memory-backend-ram", "id": "x", "size": 4096, "lock": true }),
            "lock=on-fault",
        ),
        (
            json!({ "qom-type": "memory-backend-ram", "id": "x", "size": 4096, "merge": true, "share": true }),
            "merge=on",
        ),
    ] {
        let text = run(target, "object-add", arguments.clone()).unwrap_err();
        assert!(text.contains(words), "{arguments}: {text}");
    }
    assert!(target.objects().backends().is_empty());
}
