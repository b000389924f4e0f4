use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use imago::FormatCreateBuilder;
use imago::qcow2::Qcow2;
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::cli::disk::ImageFormat;
use crate::config::Drive;
use crate::host::testing::unlocked;
use crate::image;

mod damaged;
mod killed;
mod sound;

const SIZE: u64 = 4 << 20;

/// Makes an image, upon another file or none.
fn create(path: &Path, cluster: usize, backing: Option<(&str, &str)>) {
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(path)
        .unwrap();
    let storage = ImageFile::new(file, "new".to_owned(), 0..0);
    let builder = Qcow2::<ImageFile>::create_builder(storage)
        .size(SIZE)
        .cluster_size(cluster);
    let builder = match backing {
        Some((name, format)) => builder.backing(name.to_owned(), format.to_owned()),
        None => builder,
    };
    builder.create().unwrap();
}

fn drive(path: &Path, format: ImageFormat, read_only: bool) -> Drive {
    Drive {
        id: "d".to_owned(),
        file: path.to_owned(),
        format,
        read_only,
    }
}

fn open(path: &Path, read_only: bool) -> Box<dyn DiskImage> {
    unlocked(|| image::open(&drive(path, ImageFormat::Qcow2, read_only))).image
}

fn refused(path: &Path) -> String {
    let error = image::open(&drive(path, ImageFormat::Qcow2, false)).unwrap_err();
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// As a request does: with guest memory in pieces of odd lengths.
fn read(image: &mut dyn DiskImage, offset: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0xcc; len];
    let (front, back) = bytes.split_at_mut(len / 3 + 1);
    image
        .read(offset, &[Piece::from(front), Piece::from(back)])
        .unwrap();
    bytes
}

fn write(image: &mut dyn DiskImage, offset: u64, bytes: &[u8]) {
    let mut bytes = bytes.to_vec();
    let at = bytes.len() / 3 + 1;
    let (front, back) = bytes.split_at_mut(at);
    image
        .write(offset, &[Piece::from(front), Piece::from(back)])
        .unwrap();
}

/// What a killed process leaves: the file as it is now, in another place.
fn left_behind(path: &Path) -> PathBuf {
    let copy = path.with_extension("copy");
    std::fs::copy(path, &copy).unwrap();
    sound::leaks(&copy);
    copy
}

#[test]
fn holds_what_is_written() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("disk");
    create(&path, 64 << 10, None);
    let mut image = open(&path, false);
    assert_eq!(image.size(), SIZE);
    assert_eq!(read(&mut *image, 0, 8192), [0; 8192]);
    write(&mut *image, 4096, &[7; 200 << 10]);
    assert_eq!(read(&mut *image, 0, 4096), [0; 4096]);
    assert_eq!(read(&mut *image, 4096, 200 << 10), [7; 200 << 10]);
    write(&mut *image, SIZE - 512, &[9; 512]);
    left_behind(&path);
    image.flush().unwrap();
    drop(image);
    assert_eq!(sound::leaks(&path), 0);
    let mut image = open(&path, true);
    assert_eq!(read(&mut *image, 4096, 200 << 10), [7; 200 << 10]);
    assert_eq!(read(&mut *image, SIZE - 1024, 1024)[512..], [9; 512]);
}

#[test]
fn shows_what_is_under_it_until_it_is_written() {
    let directory = TempDir::new().unwrap();
    let place = |name: &str| directory.path().join(name);
    // Shorter than the disk above it, and no whole cluster.
    std::fs::write(place("base"), [3; 100_000]).unwrap();
    create(&place("middle"), 4096, Some(("base", "raw")));
    let mut middle = open(&place("middle"), false);
    write(&mut *middle, 8192, &[4; 4096]);
    drop(middle);
    let full = place("middle").display().to_string();
    create(&place("top"), 64 << 10, Some((&full, "qcow2")));
    let before = std::fs::read(place("middle")).unwrap();
    let mut opened = unlocked(|| image::open(&drive(&place("top"), ImageFormat::Qcow2, false)));
    assert_eq!(opened.backing, [place("middle"), place("base")]);
    let top = &mut *opened.image;
    write(top, 16384, &[5; 1024]);
    let mut expected = vec![0; 128 << 10];
    expected[..100_000].fill(3);
    expected[8192..12288].fill(4);
    expected[16384..17408].fill(5);
    assert!(read(top, 0, 128 << 10) == expected);
    // Zeros hide what is under them; what is not needed may show it.
    top.write_zeroes(65536, 65536, true).unwrap();
    expected[65536..].fill(0);
    assert!(read(top, 0, 128 << 10) == expected);
    left_behind(&place("top"));
    assert!(
        std::fs::read(place("middle")).unwrap() == before,
        "a backing file was written"
    );
    // Nobody writes to what is under it, and others may stand on it too.
    let error = refused(&place("middle"));
    assert!(error.contains("another program uses it"), "{error}");
    create(&place("twin"), 64 << 10, Some(("middle", "qcow2")));
    assert_eq!(read(&mut *open(&place("twin"), false), 8192, 512), [4; 512]);
}

#[test]
fn refuses_chains_that_lead_nowhere() {
    let directory = TempDir::new().unwrap();
    let upon = |name: &str, backing: &str, format: &str| {
        let path = directory.path().join(name);
        create(&path, 4096, Some((backing, format)));
        path
    };
    let own = upon("own", "own", "qcow2");
    assert!(refused(&own).contains("under itself"), "{}", refused(&own));
    let circle = upon("circle1", "circle2", "qcow2");
    upon("circle2", "circle3", "qcow2");
    upon("circle3", "circle2", "qcow2");
    assert!(
        refused(&circle).contains("circle2 is under itself"),
        "{}",
        refused(&circle)
    );
    let other = upon("other", "x.vmdk", "vmdk");
    assert!(
        refused(&other).contains("has the format 'vmdk'"),
        "{}",
        refused(&other)
    );
    let far = upon("far", "nbd://host/disk", "raw");
    assert!(
        refused(&far).contains("no file of this machine"),
        "{}",
        refused(&far)
    );
    let gone = upon("gone", "nowhere", "raw");
    assert!(
        refused(&gone).contains("nowhere for reading: No such file"),
        "{}",
        refused(&gone)
    );
    // An image that does not say what is under it: the extension's kind is made unknown.
    let mute = upon("mute", "base", "raw");
    let mut bytes = std::fs::read(&mute).unwrap();
    let at = bytes
        .windows(4)
        .position(|bytes| bytes == [0xe2, 0x79, 0x2a, 0xca])
        .unwrap();
    bytes[at] = 0x11;
    std::fs::write(&mute, bytes).unwrap();
    assert!(
        refused(&mute).contains("qemu-img rebase -u -F FORMAT"),
        "{}",
        refused(&mute)
    );
    std::fs::write(directory.path().join("0"), [0; 512]).unwrap();
    for number in 1..40 {
        let format = if number == 1 { "raw" } else { "qcow2" };
        upon(&number.to_string(), &(number - 1).to_string(), format);
    }
    assert!(refused(&directory.path().join("39")).contains("32 images may lie upon each other"));
    open(&directory.path().join("31"), false);
}

#[test]
fn gives_back_what_is_discarded() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("disk");
    create(&path, 64 << 10, None);
    let mut image = open(&path, false);
    write(&mut *image, 0, &vec![1; 2 << 20]);
    image.flush().unwrap();
    let blocks = || std::fs::metadata(&path).unwrap().blocks() * 512;
    let before = blocks();
    // Parts of clusters at both ends stay.
    image.discard(512, (1 << 20) + 1024).unwrap();
    assert!(
        blocks() + (15 << 16) <= before,
        "{before} before, {} after",
        blocks()
    );
    assert_eq!(read(&mut *image, 0, 512), [1; 512]);
    assert_eq!(read(&mut *image, (1 << 20) + 2048, 512), [1; 512]);
    left_behind(&path);
    // The room is used again: the file does not grow.
    let len = std::fs::metadata(&path).unwrap().len();
    write(&mut *image, 3 << 20, &vec![2; 15 << 16]);
    image.flush().unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().len(), len);
    // What was never written costs no table.
    image.discard(0, SIZE).unwrap();
    image.write_zeroes(0, SIZE, true).unwrap();
    assert_eq!(read(&mut *image, 3 << 20, 4096), [0; 4096]);
    drop(image);
    assert_eq!(sound::leaks(&path), 0);
}

#[derive(Clone, Debug)]
enum Step {
    Write(u64, u64, u8),
    Zero(u64, u64, bool),
    Discard(u64, u64),
    Flush,
    Reopen,
    Kill,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let place = || (0..SIZE / 512 - 600, 1..600_u64);
    let step = prop_oneof![
        6 => (place(), 1_u8..).prop_map(|((at, len), byte)| Step::Write(at * 512, len * 512, byte)),
        2 => (place(), any::<bool>()).prop_map(|((at, len), unmap)| Step::Zero(at * 512, len * 512, unmap)),
        2 => place().prop_map(|(at, len)| Step::Discard(at * 512, len * 512)),
        1 => Just(Step::Flush),
        1 => Just(Step::Reopen),
        2 => Just(Step::Kill),
    ];
    proptest::collection::vec(step, 1..24)
}

/// Sectors that have changed since the last flush.
#[derive(Default)]
struct Changed(Vec<Range<u64>>);

impl Changed {
    fn has(&self, at: u64) -> bool {
        self.0.iter().any(|range| range.contains(&at))
    }
}

/// How many series of steps are tried.
fn cases() -> ProptestConfig {
    let long = std::env::var_os("BALLAST_TEST_LONG").is_some();
    ProptestConfig::with_cases(if long { 1000 } else { 32 })
}

proptest! {
    #![proptest_config(cases())]

    /// What is read is what a simple model has; what was flushed is there, and the file sound, whenever the process is killed.
    #[test]
    fn keeps_its_promises(steps in steps(), cluster in prop_oneof![Just(512_usize), Just(4096), Just(64 << 10)], under in 0..3_u8) {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("disk");
        let base = directory.path().join("base");
        let len = usize::try_from(SIZE).unwrap();
        let mut model = vec![0; len];
        let backing = match under {
            0 => None,
            1 => {
                std::fs::write(&base, vec![0x55; len / 2]).unwrap();
                model[..len / 2].fill(0x55);
                Some(("base", "raw"))
            }
            _ => {
                create(&base, 4096, None);
                write(&mut *open(&base, false), SIZE / 4, &vec![0x66; len / 2]);
                model[len / 4..len / 4 + len / 2].fill(0x66);
                Some(("base", "qcow2"))
            }
        };
        create(&path, cluster, backing);
        let mut image = Some(open(&path, false));
        let mut flushed = model.clone();
        let mut changed = Changed::default();
        let part = |at: u64, len: u64| usize::try_from(at).unwrap()..usize::try_from(at + len).unwrap();
        for step in steps {
            let disk = image.as_deref_mut().unwrap();
            match step {
                Step::Write(at, len, byte) => {
                    write(disk, at, &vec![byte; usize::try_from(len).unwrap()]);
                    model[part(at, len)].fill(byte);
                    changed.0.push(at..at + len);
                }
                Step::Zero(at, len, unmap) => {
                    disk.write_zeroes(at, len, unmap).unwrap();
                    model[part(at, len)].fill(0);
                    changed.0.push(at..at + len);
                }
                Step::Discard(at, len) => {
                    disk.discard(at, len).unwrap();
                    let now = read(disk, at, usize::try_from(len).unwrap());
                    let old = &mut model[part(at, len)];
                    for (now, old) in now.chunks(512).zip(old.chunks_mut(512)) {
                        prop_assert!(now == old || now.iter().all(|byte| *byte == 0), "neither the old bytes nor zeros");
                        old.copy_from_slice(now);
                    }
                    changed.0.push(at..at + len);
                }
                Step::Flush => {
                    disk.flush().unwrap();
                    flushed.clone_from(&model);
                    changed.0.clear();
                }
                Step::Reopen => {
                    drop(image.take());
                    sound::leaks(&path);
                    image = Some(open(&path, false));
                    flushed.clone_from(&model);
                    changed.0.clear();
                }
                Step::Kill => {
                    let copy = left_behind(&path);
                    let mut image = open(&copy, true);
                    let there = read(&mut *image, 0, len);
                    let sectors = there.chunks(512).zip(flushed.chunks(512)).zip((0..).step_by(512));
                    for ((there, flushed), at) in sectors {
                        prop_assert!(there == flushed || changed.has(at), "what was flushed at {at:#x} is lost");
                    }
                    // The next one goes on with it.
                    drop(image);
                    let mut image = open(&copy, false);
                    write(&mut *image, 0, &[1; 4096]);
                    drop(image);
                    sound::leaks(&copy);
                }
            }
            let disk = image.as_deref_mut().unwrap();
            prop_assert!(read(disk, 0, len) == model, "the disk differs");
        }
        drop(image);
        sound::leaks(&path);
        let mut image = open(&path, true);
        prop_assert!(read(&mut *image, 0, len) == model, "the closed disk differs");
    }
}
