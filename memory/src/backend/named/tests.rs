use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use vm_memory::{Bytes, GuestAddress};

use super::*;
use crate::backend::{BackendKind, BackendSpec, Prealloc};
use crate::range::GuestRange;
use crate::testing::{HugePages, MIB, Mount, chain, open, resident, spec};

fn file(path: &Path, change: impl FnOnce(&mut FileSpec)) -> BackendSpec {
    let mut file = FileSpec::new(path);
    change(&mut file);
    spec(BackendKind::File(file), 8)
}

fn shared(path: &Path, change: impl FnOnce(&mut FileSpec)) -> BackendSpec {
    let mut spec = file(path, change);
    spec.share = Some(true);
    spec
}

fn refusal(spec: BackendSpec) -> String {
    chain(&open(spec).unwrap_err())
}

#[test]
fn a_file_that_is_not_there_is_made_and_stays() {
    for place in ["/dev/shm", "/var/tmp"] {
        let directory = tempfile::tempdir_in(place).unwrap();
        let path = directory.path().join("ram");
        let ram = open(shared(&path, |file| file.offset = ByteSize::mib(1))).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), 9 * MIB);
        ram.memory().write_slice(b"guest", GuestAddress(0x5000)).unwrap();
        drop(ram);
        let bytes = fs::read(&path).unwrap();
        assert_eq!(&bytes[0x10_5000..0x10_5005], b"guest");
        // The next guest finds what the last one left.
        let ram = open(shared(&path, |file| file.offset = ByteSize::mib(1))).unwrap();
        let mut found = [0; 5];
        ram.memory().read_slice(&mut found, GuestAddress(0x5000)).unwrap();
        assert_eq!(&found, b"guest");
    }
}

#[test]
fn discarded_data_is_gone_at_the_end_and_nothing_beside_it() {
    let directory = tempfile::tempdir_in("/dev/shm").unwrap();
    let path = directory.path().join("ram");
    fs::write(&path, vec![7; 10 << 20]).unwrap();
    let mut spec = shared(&path, |file| {
        (file.offset, file.discard) = (ByteSize::mib(1), true);
    });
    spec.prealloc = Prealloc::On;
    drop(open(spec).unwrap());
    let bytes = fs::read(&path).unwrap();
    assert_eq!(bytes.len(), 10 << 20);
    let (before, rest) = bytes.split_at(1 << 20);
    let (ours, after) = rest.split_at(8 << 20);
    assert!(before.iter().chain(after).all(|byte| *byte == 7));
    assert!(ours.iter().all(|byte| *byte == 0));
    assert_eq!(fs::metadata(&path).unwrap().blocks() * 512, 2 << 20);
}

#[test]
fn a_start_that_fails_leaves_the_file_as_it_was() {
    let _pool = HugePages::with_free(2);
    let mount = Mount::new("hugetlbfs", "pagesize=2M");
    let shm = tempfile::tempdir_in("/dev/shm").unwrap();
    let missing = mount.path().join("missing");
    let empty = shm.path().join("empty");
    fs::write(&empty, "").unwrap();
    let mut first = shared(&empty, |_| ());
    (first.id, first.prealloc) = ("mem1".to_owned(), Prealloc::On);
    let error = crate::ram::Ram::open(vec![first, shared(&missing, |_| ())], &()).unwrap_err();
    assert!(error.to_string().contains("needs 4 pages"), "{error}");
    assert!(!missing.exists());
    assert_eq!(fs::metadata(&empty).unwrap().len(), 0);
    assert_eq!(HugePages::free_and_reserved(), (2, 0));
}

/// What comes after the memory can fail too.
#[test]
fn a_start_that_fails_later_takes_away_what_it_made_and_no_more() {
    for place in ["/dev/shm", "/var/tmp"] {
        let directory = tempfile::tempdir_in(place).unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::write(path("empty"), "").unwrap();
        fs::write(path("full"), vec![7; 8 << 20]).unwrap();
        let open = |name| crate::ram::Ram::open(vec![shared(&path(name), |_| ())], &()).unwrap();
        let [made, replaced, empty, full] = ["made", "replaced", "empty", "full"].map(open);
        fs::remove_file(path("replaced")).unwrap();
        fs::write(path("replaced"), "of somebody else").unwrap();
        drop((made, replaced, empty, full));
        assert!(!path("made").exists());
        assert_eq!(fs::read(path("replaced")).unwrap(), b"of somebody else");
        assert_eq!(fs::metadata(path("empty")).unwrap().len(), 0);
        assert_eq!(fs::read(path("full")).unwrap(), vec![7; 8 << 20]);
    }
}

#[test]
fn a_template_is_read_and_never_written() {
    for place in ["/dev/shm", "/var/tmp"] {
        let directory = tempfile::tempdir_in(place).unwrap();
        let path = directory.path().join("template");
        fs::write(&path, vec![7; 8 << 20]).unwrap();
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o444)).unwrap();
        let ram = open(file(&path, |file| file.read_only = true)).unwrap();
        let other = open(file(&path, |file| file.read_only = true)).unwrap();
        ram.memory().write_obj(1_u64, GuestAddress(0)).unwrap();
        assert_eq!(other.memory().read_obj::<u8>(GuestAddress(0)).unwrap(), 7);
        assert_eq!(fs::read(&path).unwrap(), vec![7; 8 << 20]);
        // What was changed would come back as it was in the file.
        let released = ram.release(&[GuestRange::between(0, 2 * MIB)]);
        assert_eq!((released.discarded, released.refused), (0, 2 * MIB));
        assert_eq!(ram.memory().read_obj::<u64>(GuestAddress(0)).unwrap(), 1);
        assert!(ram.backends()[0].keeps().unwrap().contains("share=off"));
    }
}

#[test]
fn a_disk_keeps_what_may_not_be_lost() {
    let directory = tempfile::tempdir_in("/var/tmp").unwrap();
    let path = directory.path().join("ram");
    let mut spec = shared(&path, |_| ());
    spec.prealloc = Prealloc::On;
    let ram = open(spec).unwrap();
    assert_eq!(resident(&ram), 8 * MIB);
    assert!(ram.backends()[0].keeps().unwrap().contains("discard-data=on"));
    let released = ram.release(&[GuestRange::between(0, 8 * MIB)]);
    assert_eq!((released.discarded, released.refused), (0, 8 * MIB));
    assert_eq!(resident(&ram), 8 * MIB);
}

#[test]
fn private_huge_pages_come_from_the_pool_and_stay_out_of_the_file() {
    let _pool = HugePages::with_free(4);
    let mount = Mount::new("hugetlbfs", "pagesize=2M");
    let path = mount.path().join("ram");
    let mut spec = file(&path, |_| ());
    spec.prealloc = Prealloc::On;
    let ram = open(spec).unwrap();
    assert_eq!(HugePages::free_and_reserved(), (0, 0));
    assert_eq!(resident(&ram), 8 * MIB);
    assert_eq!(fs::metadata(&path).unwrap().blocks(), 0);
    drop(ram);
    assert_eq!(HugePages::free_and_reserved(), (4, 0));
}

#[test]
fn refuses_files_that_do_not_fit() {
    let directory = tempfile::tempdir_in("/dev/shm").unwrap();
    let path = directory.path().join("ram");
    fs::write(&path, [1]).unwrap();
    let text = refusal(shared(&path, |_| ()));
    assert!(
        text.contains("has 1 bytes, but offset=0 and size=8388608 need 8 MiB"),
        "{text}"
    );
    let text = refusal(shared(&path, |file| file.offset = ByteSize::from_bytes(512)));
    assert!(
        text.contains("offset=512") && text.contains("page size, 4 KiB"),
        "{text}"
    );
    let text = refusal(file(&path, |_| ()));
    assert!(text.contains("costs every page twice: use share=on"), "{text}");
    let text = refusal(file(&path, |file| file.discard = true));
    assert!(text.contains("discard-data=on needs share=on"), "{text}");
    let nowhere = directory.path().join("nowhere");
    let text = refusal(file(&nowhere, |file| file.read_only = true));
    assert!(
        text.contains("readonly=on must be a file that is there"),
        "{text}"
    );
    let text = refusal(shared(&nowhere.join("at/all"), |_| ()));
    assert!(text.contains("cannot create a file in mem-path"), "{text}");
    let text = refusal(shared(Path::new("/dev/null"), |_| ()));
    assert!(text.contains("neither a directory nor a regular file"), "{text}");
    assert_eq!(fs::read(&path).unwrap(), [1]);
}
