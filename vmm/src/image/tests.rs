use std::fs::File;
use std::path::Path;

use super::*;
use crate::host::testing::unlocked;

fn drive(file: &Path, read_only: bool) -> Drive {
    Drive {
        id: "d".to_owned(),
        file: file.to_owned(),
        format: ImageFormat::Raw,
        read_only,
    }
}

fn text(file: &Path) -> String {
    let error = open(&drive(file, false)).unwrap_err();
    let source = std::error::Error::source(&error).map(ToString::to_string);
    format!("{error}: {}", source.unwrap_or_default())
}

#[test]
fn opens_what_can_be_a_disk() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk");
    assert!(
        text(&path).contains("cannot open") && text(&path).contains("No such file"),
        "{}",
        text(&path)
    );
    assert!(text(directory.path()).contains("neither a file nor a block device"));
    File::create(&path).unwrap();
    assert!(text(&path).contains("truncate -s SIZE"), "{}", text(&path));
    std::fs::write(&path, [0; 700]).unwrap();
    assert!(
        text(&path).contains("'truncate -s 1024' makes it one"),
        "{}",
        text(&path)
    );
    std::fs::write(&path, [0; 1024]).unwrap();
    let opened = open(&drive(&path, false)).unwrap();
    assert_eq!((opened.image.size(), opened.backing.len()), (1024, 0));
    assert!(text(&path).contains("another program"), "{}", text(&path));
    drop(opened);
    let readers = [(); 2].map(|()| unlocked(|| open(&drive(&path, true))));
    assert!(text(&path).contains("another program"), "{}", text(&path));
    drop(readers);
    unlocked(|| open(&drive(&path, false)));
}
