use super::*;

#[test]
fn it_is_there_while_we_are() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pid");
    // Left behind by somebody.
    fs::write(&path, "4000000000 and more\n").unwrap();
    let file = PidFile::create(&path).unwrap();
    let pid = std::process::id();
    assert_eq!(fs::read_to_string(&path).unwrap(), format!("{pid}\n"));
    let error = PidFile::create(&path).unwrap_err().to_string();
    assert!(
        error.contains(&format!("its process {pid} still runs")),
        "{error}"
    );
    drop(file);
    assert!(!path.exists());
    drop(PidFile::create(&path).unwrap());
}

#[test]
fn a_place_that_is_none_is_told() {
    let error = PidFile::create(Path::new("/nowhere/pid")).unwrap_err();
    assert!(error.to_string().contains("'/nowhere/pid'"), "{error}");
}
