//! A pool of 2 MiB pages for the length of a test.

use std::fs::{self, File};

/// Tests that change the host's settings hold this file locked, whichever program they are in.
const LOCK: &str = "/tmp/ballast-host.lock";
const POOL: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB";

/// Pages added to the host's pool of 2 MiB pages; taken out again when dropped. While it lives, no other test changes
/// the pool.
#[derive(Debug)]
pub struct HugePages {
    before: u64,
    /// Unlocked when closed.
    _lock: File,
}

impl HugePages {
    /// Waits for its turn, then adds `count` pages. Panics when the host cannot give them: the test needs root, or
    /// the lab.
    pub fn take(count: u64) -> HugePages {
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(LOCK)
            .expect(LOCK);
        lock.lock().expect(LOCK);
        let before = read("nr_hugepages");
        let pool = HugePages { before, _lock: lock };
        let wanted = before + count;
        fs::write(format!("{POOL}/nr_hugepages"), wanted.to_string())
            .unwrap_or_else(|error| panic!("cannot set {POOL}/nr_hugepages, needs root or the lab: {error}"));
        let got = read("nr_hugepages");
        assert_eq!(
            got, wanted,
            "the host has no memory for {count} more pages of 2 MiB"
        );
        pool
    }

    /// Pages of 2 MiB that nobody uses now, host-wide.
    pub fn free(&self) -> u64 {
        read("free_hugepages")
    }

    /// Those of the free pages that are promised to somebody.
    pub fn reserved(&self) -> u64 {
        read("resv_hugepages")
    }
}

impl Drop for HugePages {
    fn drop(&mut self) {
        // Nothing better can be done about a failure while a test ends.
        let _ = fs::write(format!("{POOL}/nr_hugepages"), self.before.to_string());
    }
}

fn read(name: &str) -> u64 {
    let path = format!("{POOL}/{name}");
    fs::read_to_string(&path)
        .expect(&path)
        .trim()
        .parse()
        .expect(&path)
}
