//! Images whose tables say anything: the disk has errors then, and Ballast goes on.

use std::os::unix::fs::FileExt;

use super::*;

/// Where an entry of a table is, in an image as the test makes it: after the header, the file is tables up to the first data.
#[derive(Clone, Debug)]
struct Damage {
    /// Which of the tables' entries, of 8 bytes each.
    entry: u64,
    value: u64,
}

fn damages() -> impl Strategy<Value = Vec<Damage>> {
    let value = prop_oneof![
        // Offsets within the file, with the flags that entries have.
        3 => (0_u64..64, 0_u64..16).prop_map(|(cluster, flags)| (cluster * CLUSTER as u64) | flags << 60 | (flags & 1)),
        1 => any::<u64>(),
        1 => Just(0),
        1 => Just(u64::MAX),
    ];
    let damage = (4_u64..12 * CLUSTER as u64 / 8, value).prop_map(|(entry, value)| Damage { entry, value });
    proptest::collection::vec(damage, 1..6)
}

const CLUSTER: usize = 512;

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn damaged_tables_end_in_errors(damages in damages(), places in proptest::collection::vec((0..SIZE / 512 - 64, 1..64_u64, 0..5_u8), 1..12)) {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("disk");
        create(&path, CLUSTER, None);
        let mut image = open(&path, false);
        for at in [0, 40_000, 1 << 20] {
            write(&mut *image, at, &[7; 3000][..2560]);
        }
        drop(image);
        let file = File::options().write(true).open(&path).unwrap();
        for damage in &damages {
            file.write_all_at(&damage.value.to_be_bytes(), damage.entry * 8).unwrap();
        }
        drop(file);
        let Ok(mut opened) = image::open(&drive(&path, ImageFormat::Qcow2, false)) else {
            return Ok(());
        };
        let image = &mut *opened.image;
        for (sector, sectors, kind) in places {
            let (at, len) = (sector * 512 % (image.size() / 512 * 512), sectors * 512);
            let len = len.min(image.size() - at);
            let mut bytes = vec![1; usize::try_from(len).unwrap()];
            let pieces = [Piece::from(&mut bytes[..])];
            // Whether it works is not the question.
            let _ = match kind {
                0 => image.read(at, &pieces),
                1 => image.write(at, &pieces),
                2 => image.discard(at, len),
                3 => image.write_zeroes(at, len, true),
                _ => image.flush(),
            };
        }
    }
}
