use proptest::prelude::*;

use super::*;

/// A header of version 3 for a disk of 1 GiB, with clusters of 64 KiB, up to the first extension.
fn header() -> Vec<u8> {
    let mut bytes = vec![0; 512];
    bytes[..4].copy_from_slice(&MAGIC);
    for (at, value) in [(4, 3), (20, 16), (36, 2), (56, 1), (96, 4), (100, 104)] {
        put(&mut bytes, at, value);
    }
    put(&mut bytes, 28, 1 << 30);
    put(&mut bytes, 44, 3 << 16);
    put(&mut bytes, 52, 1 << 16);
    bytes
}

fn put(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
}

/// With a file under it, and the extension that says what it is.
fn with_backing(format: Option<&str>) -> Vec<u8> {
    let mut bytes = header();
    put(&mut bytes, 12, 400);
    put(&mut bytes, 16, 4);
    bytes[400..404].copy_from_slice(b"base");
    put(&mut bytes, 104, 0x6803_f857);
    put(&mut bytes, 108, 3);
    if let Some(format) = format {
        put(&mut bytes, 120, BACKING_FORMAT);
        put(&mut bytes, 124, u32::try_from(format.len()).unwrap());
        bytes[128..128 + format.len()].copy_from_slice(format.as_bytes());
    }
    bytes
}

fn error(bytes: &[u8]) -> String {
    Header::read(bytes, false).unwrap_err().to_string()
}

#[test]
fn reads_what_it_needs() {
    let read = Header::read(&header(), false).unwrap();
    let expected = Header {
        version: 3,
        size: 1 << 30,
        cluster: 64 << 10,
        pointers: 0x3_0000..0x3_0010,
        counts: 1 << 16,
        counted: 2 << 30,
        backing: None,
    };
    assert_eq!(read, expected);
    for format in [None, Some("raw"), Some("qcow2")] {
        let read = Header::read(&with_backing(format), false).unwrap();
        let name = "base".to_owned();
        let format = format.map(str::to_owned);
        assert_eq!(read.backing, Some(Backing { name, format }));
    }
}

#[test]
fn refuses_what_is_not_served_and_says_what_to_do() {
    let with = |at: usize, value: u32| {
        let mut bytes = header();
        put(&mut bytes, at, value);
        error(&bytes)
    };
    for (text, part) in [
        (error(b""), "it is empty"),
        (error(b"KDMV and so on"), "qemu-img convert"),
        (error(&[0; 512]), "format=raw"),
        (error(&header()[..60]), "ends before byte"),
        (with(4, 4), "version 4"),
        (with(32, 1), "encrypted"),
        (with(32, 2), "encrypted"),
        (with(76, 1), "qemu-img check -r all"),
        (with(76, 2), "corrupt"),
        (with(76, 4), "data_file"),
        (with(76, 8), "zlib"),
        (with(76, 16), "extended_l2"),
        (with(76, 64), "not known (0x40)"),
        (with(60, 2), "has snapshots in it (2): readonly=on"),
        (with(20, 8), "clusters of 2^8 bytes"),
        (with(20, 22), "clusters of 2^22 bytes"),
        (with(28, 0), "a disk of 0 bytes"),
        (with(28, 511), "a disk of 511 bytes"),
        (with(96, 7), "2^7 bits"),
        (with(56, 129), "bytes of reference counts"),
        (with(56, 0), "0 bytes of reference counts"),
        (with(36, 1), "level 1 table of 8 bytes"),
        (with(36, u32::MAX), "level 1 table"),
        (with(44, 0), "level 1 table at 0x0"),
        (with(44, 0x3_0200), "level 1 table at 0x30200"),
    ] {
        assert!(text.contains(part), "{text:?} lacks {part:?}");
    }
    let mut snapshots = header();
    put(&mut snapshots, 60, 2);
    assert!(Header::read(&snapshots, true).is_ok(), "it can be read");
    let mut long = with_backing(None);
    put(&mut long, 16, 1024);
    assert!(error(&long).contains("1024 bytes"));
    let mut binary = with_backing(Some("raw"));
    binary[401] = 0xff;
    assert!(error(&binary).contains("UTF-8"));
}

proptest! {
    #[test]
    fn survives_any_bytes(
        changes in proptest::collection::vec((4_usize..512, any::<u8>()), 0..12),
        cut in 0_usize..513,
    ) {
        let mut bytes = with_backing(Some("raw"));
        for (at, byte) in changes {
            bytes[at] = byte;
        }
        if let Ok(header) = Header::read(&bytes[..cut.max(4)], false) {
            prop_assert!(header.pointers.end - header.pointers.start <= MOST_L1_BYTES);
            prop_assert!(header.cluster.is_power_of_two() && header.counted > 0);
        }
    }
}
