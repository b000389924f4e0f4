use serde_json::json;

use super::*;

#[test]
fn an_arrow_that_is_not_allowed_is_named() {
    let metadata = json!({ "packages": [
        { "name": "devices", "dependencies": [
            { "name": "memory", "path": "/x/memory" },
            { "name": "devices", "path": "/x/devices", "kind": "dev" },
            { "name": "libc" } ] },
        { "name": "memory", "dependencies": [{ "name": "devices", "path": "/x/devices", "kind": "dev" }] },
    ]});
    assert_eq!(wrong(&found(&metadata)), ["memory may not use devices"]);
}
