use std::fs;

use super::*;
use crate::testing::{directory, spec};

fn refusal(path: &Path) -> String {
    crate::testing::chain(&Directory::open(&spec(directory(path), 64)).unwrap_err())
}

#[test]
fn only_directories_of_memory_are_taken() {
    let missing = refusal(Path::new("/nowhere/at/all"));
    assert!(
        missing.contains("'/nowhere/at/all'") && missing.contains("No such file"),
        "{missing}"
    );
    let shm = tempfile::NamedTempFile::new_in("/dev/shm").unwrap();
    assert!(
        refusal(shm.path()).contains("is not a directory"),
        "{}",
        refusal(shm.path())
    );
    let proc = refusal(Path::new("/proc"));
    assert!(proc.contains("0x9fa0") && proc.contains("hugetlbfs"), "{proc}");
}

#[test]
fn the_file_has_no_name() {
    let shm = tempfile::tempdir_in("/dev/shm").unwrap();
    let backend = Directory::open(&spec(directory(shm.path()), 4)).unwrap();
    assert_eq!(fs::read_dir(shm.path()).unwrap().count(), 0);
    assert_eq!(rustix::fs::fstat(&backend.file).unwrap().st_nlink, 0);
    assert!(backend.describe().starts_with("tmpfs file in /dev/shm/"));
}
