use std::fs;

use super::*;

fn refusal(path: &Path) -> String {
    crate::testing::chain(&Directory::open(&FileSpec::new(path)).unwrap_err())
}

#[test]
fn only_directories_of_memory_are_taken() {
    let missing = refusal(Path::new("/nowhere/at/all"));
    assert!(
        missing.contains("'/nowhere/at/all'") && missing.contains("No such file"),
        "{missing}"
    );
    let proc = refusal(Path::new("/proc"));
    assert!(proc.contains("0x9fa0") && proc.contains("hugetlbfs"), "{proc}");
}

#[test]
fn the_file_has_no_name() {
    let shm = tempfile::tempdir_in("/dev/shm").unwrap();
    let backend = Directory::open(&FileSpec::new(shm.path())).unwrap();
    assert_eq!(fs::read_dir(shm.path()).unwrap().count(), 0);
    assert_eq!(rustix::fs::fstat(&backend.file).unwrap().st_nlink, 0);
    assert!(backend.describe().starts_with("tmpfs file in /dev/shm/"));
}

#[test]
fn what_only_files_with_names_have_is_refused() {
    let mut spec = FileSpec::new("/dev/shm");
    spec.offset = ByteSize::mib(2);
    let error = Directory::open(&spec).unwrap_err().to_string();
    assert_eq!(
        error,
        "offset= is for a file with a name, but mem-path '/dev/shm' is a directory"
    );
    let mut spec = FileSpec::new("/dev/shm");
    spec.read_only = true;
    let error = Directory::open(&spec).unwrap_err().to_string();
    assert!(error.starts_with("readonly=on is for"), "{error}");
}
