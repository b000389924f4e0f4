use super::*;

#[test]
fn an_entry_is_made_once_for_a_key() {
    let directory = tempfile::tempdir().unwrap();
    let cache = Cache::new(directory.path().to_owned());
    let key = Key::new().with("one");
    let made = cache
        .entry("thing", key, |path| {
            fs::write(path.join("file"), "text").map_err(Error::file("write", path))
        })
        .unwrap();
    assert_eq!(fs::read_to_string(made.join("file")).unwrap(), "text");
    let again = cache.entry("thing", key, |_| panic!("made twice")).unwrap();
    assert_eq!(made, again);
}

#[test]
fn a_failure_leaves_no_entry() {
    let directory = tempfile::tempdir().unwrap();
    let cache = Cache::new(directory.path().to_owned());
    let key = Key::new();
    let failed = cache.entry("thing", key, |_| Err(Error::Failed("no".into())));
    assert!(failed.is_err());
    assert!(cache.entry("thing", key, |_| Ok(())).unwrap().is_dir());
}

#[test]
fn inputs_do_not_run_into_each_other() {
    let (one, two) = (Key::new().with("ab").with("c"), Key::new().with("a").with("bc"));
    assert_ne!(one.0, two.0);
}
