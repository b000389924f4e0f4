use super::*;

#[test]
fn directories_come_once_and_before_what_they_hold() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut archive = Archive::create(file.path()).unwrap();
    archive.file("/a/b/one", 0o644, b"1").unwrap();
    archive.file("/a/b/two", 0o755, b"22").unwrap();
    archive.symlink("one", "/a/three").unwrap();
    archive.finish().unwrap();
    assert_eq!(
        names(&fs::read(file.path()).unwrap()),
        ["a", "a/b", "a/b/one", "a/b/two", "a/three", "TRAILER!!!"]
    );
}

/// The names in an archive; each entry has to start where the format says.
fn names(mut archive: &[u8]) -> Vec<String> {
    let mut names = Vec::new();
    while !archive.is_empty() {
        assert_eq!(&archive[..6], b"070701");
        let field = |index: usize| {
            let text = std::str::from_utf8(&archive[6 + 8 * index..14 + 8 * index]).unwrap();
            usize::from_str_radix(text, 16).unwrap()
        };
        let (size, name_size) = (field(6), field(11));
        names.push(String::from_utf8(archive[110..110 + name_size - 1].to_vec()).unwrap());
        let data = (110 + name_size).next_multiple_of(4);
        archive = &archive[(data + size).next_multiple_of(4)..];
    }
    names
}
