use memory::backend::{BackendKind, BackendSpec};
use memory::size::ByteSize;

use super::*;

#[test]
fn memory_that_never_goes_back_says_so_whatever_was_asked() {
    let directory = tempfile::tempdir_in("/var/tmp").unwrap();
    let size = ByteSize::mib(4);
    let disk = BackendSpec {
        share: Some(true),
        ..BackendSpec::new("disk", BackendKind::file(directory.path().join("ram")), size)
    };
    let plain = BackendSpec::new("plain", BackendKind::Ram, size);
    let open = |specs: &[&BackendSpec]| Ram::open(specs.iter().copied().cloned().collect(), &()).unwrap();

    let reason = keeps_all(&open(&[&disk])).unwrap();
    assert!(
        reason.starts_with("backend 'disk': ") && reason.contains("discard-data"),
        "{reason}"
    );
    // Where some of it goes back, reporting is worth its while.
    assert_eq!(keeps_all(&open(&[&plain])), None);
    assert_eq!(keeps_all(&open(&[&plain, &disk])), None);
}
