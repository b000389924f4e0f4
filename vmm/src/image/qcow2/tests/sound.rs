//! An independent look at an image file: who refers to which cluster, and what the reference counts say about it.

use std::collections::BTreeMap;
use std::path::Path;

/// Bits of an entry that are an offset, and its flags.
const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
const COPIED: u64 = 1 << 63;
const COMPRESSED: u64 = 1 << 62;

struct Image(Vec<u8>);

impl Image {
    fn number(&self, at: u64, bytes: u64) -> u64 {
        let at = usize::try_from(at).unwrap();
        let end = at + usize::try_from(bytes).unwrap();
        // A file may end within a table: the rest are zeros.
        (at..end).fold(0, |value, at| {
            value << 8 | u64::from(self.0.get(at).copied().unwrap_or(0))
        })
    }
}

/// Panics when something refers to a cluster more often than its count says. Returns how many clusters are counted and not used.
pub(super) fn leaks(path: &Path) -> u64 {
    let image = Image(std::fs::read(path).unwrap());
    let bits = image.number(20, 4);
    let cluster = 1 << bits;
    assert_eq!(image.number(96, 4), 4, "counts of 16 bits");
    let mut users: BTreeMap<u64, u64> = BTreeMap::new();
    let mut use_one = |offset: u64| *users.entry(offset >> bits).or_default() += 1;
    use_one(0);
    let (l1, entries) = (image.number(40, 8), image.number(36, 4));
    for part in 0..(entries * 8).div_ceil(cluster) {
        use_one(l1 + part * cluster);
    }
    let mut copied = Vec::new();
    for index in 0..entries {
        let entry = image.number(l1 + index * 8, 8);
        let table = entry & OFFSET;
        if table == 0 {
            continue;
        }
        use_one(table);
        copied.push((table, entry & COPIED != 0));
        for index in 0..cluster / 8 {
            let entry = image.number(table + index * 8, 8);
            assert_eq!(entry & COMPRESSED, 0, "no compressed clusters here");
            if entry & OFFSET != 0 {
                use_one(entry & OFFSET);
                copied.push((entry & OFFSET, entry & COPIED != 0));
            }
        }
    }
    let (counts, clusters) = (image.number(48, 8), image.number(56, 4));
    let mut counted: BTreeMap<u64, u64> = BTreeMap::new();
    for part in 0..clusters {
        use_one(counts + part * cluster);
    }
    for index in 0..clusters * cluster / 8 {
        let block = image.number(counts + index * 8, 8);
        if block == 0 {
            continue;
        }
        use_one(block);
        for number in 0..cluster / 2 {
            let count = image.number(block + number * 2, 2);
            if count > 0 {
                counted.insert(index * (cluster / 2) + number, count);
            }
        }
    }
    for (number, uses) in &users {
        let count = counted.get(number).copied().unwrap_or(0);
        assert!(
            *uses <= count,
            "cluster {number:#x} is used {uses} times and counted {count} times"
        );
    }
    for (offset, copied) in copied {
        let one = counted.get(&(offset >> bits)) == Some(&1);
        assert!(
            one || !copied,
            "cluster at {offset:#x} is marked as the only one's"
        );
    }
    let used: u64 = users.values().sum();
    counted.values().sum::<u64>() - used
}
