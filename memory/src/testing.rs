//! What tests share: specifications, and a huge page pool that is put back.

use std::fs::{self, File};
use std::path::Path;

use crate::backend::{BackendKind, BackendSpec};
use crate::ram::{Ram, RamError};
use crate::size::{ByteSize, PageSize};

pub(crate) const MIB: u64 = 1 << 20;
pub(crate) const HUGE: u64 = 2 << 20;
pub(crate) const MEMFD: BackendKind = BackendKind::memfd(None);
pub(crate) const HUGE_MEMFD: BackendKind = BackendKind::memfd(Some(PageSize::HUGE_2M));

/// A lazy backend of `mib` MiB named `mem0`.
pub(crate) fn spec(kind: BackendKind, mib: u64) -> BackendSpec {
    BackendSpec::new("mem0", kind, ByteSize::mib(mib))
}

pub(crate) fn directory(path: &Path) -> BackendKind {
    BackendKind::file(path)
}

pub(crate) fn open(spec: BackendSpec) -> Result<Ram, RamError> {
    Ram::open(vec![spec], &()).inspect(Ram::started)
}

/// What the host holds for the first backend, in bytes.
pub(crate) fn resident(ram: &Ram) -> u64 {
    ram.residency().unwrap()[0].resident.bytes()
}

/// The message and its causes, as `ballast` prints them.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// A file that tests which change the host's settings hold locked, whichever program they are in.
const LOCK: &str = "/tmp/ballast-host.lock";

/// Waits until no other test changes the host.
pub(crate) fn lock_host() -> File {
    let file = File::options().create(true).append(true).open(LOCK).expect(LOCK);
    file.lock().expect(LOCK);
    file
}

/// The 2 MiB pool of node 0 with an exact number of free pages; put back when dropped.
pub(crate) struct HugePages {
    before: String,
    _lock: File,
}

const POOL: &str = "/sys/devices/system/node/node0/hugepages/hugepages-2048kB";

impl HugePages {
    pub(crate) fn with_free(free: u64) -> Self {
        let lock = lock_host();
        let before = read(&format!("{POOL}/nr_hugepages"));
        let this = Self { before, _lock: lock };
        let number = |name: &str| -> u64 { read(&format!("{POOL}/{name}")).parse().unwrap() };
        let used = number("nr_hugepages") - number("free_hugepages");
        let wanted = used + free;
        fs::write(format!("{POOL}/nr_hugepages"), wanted.to_string())
            .unwrap_or_else(|error| panic!("cannot set {POOL}/nr_hugepages, needs root or the lab: {error}"));
        assert_eq!(
            number("free_hugepages"),
            free,
            "the host has no memory for {free} huge pages"
        );
        this
    }

    /// `HugePages_Free` and `HugePages_Rsvd`.
    pub(crate) fn free_and_reserved() -> (u64, u64) {
        let text = fs::read_to_string("/proc/meminfo").unwrap();
        let number = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim().parse().unwrap()
        };
        (number("HugePages_Free:"), number("HugePages_Rsvd:"))
    }
}

impl Drop for HugePages {
    fn drop(&mut self) {
        // Nothing better can be done about a failure while a test ends.
        let _ = fs::write(format!("{POOL}/nr_hugepages"), &self.before);
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).expect(path).trim().to_owned()
}

/// A mount that is gone when dropped.
pub(crate) struct Mount(tempfile::TempDir);

impl Mount {
    pub(crate) fn new(kind: &str, options: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let status = std::process::Command::new("mount")
            .args(["-t", kind, "-o", options, "ballast-test"])
            .arg(directory.path())
            .status()
            .expect("mount(8)");
        assert!(status.success(), "cannot mount a {kind}: needs root or the lab");
        Self(directory)
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // A file that is still mapped does not matter to a lazy unmount.
        let _ = std::process::Command::new("umount")
            .arg("-l")
            .arg(self.path())
            .status();
    }
}

/// Settings of the host that are put back when dropped.
pub(crate) struct Settings {
    before: Vec<(String, String)>,
    _lock: File,
}

impl Settings {
    /// Sets each file under `directory` to its value.
    pub(crate) fn change(directory: &str, values: &[(&str, &str)]) -> Self {
        let lock = lock_host();
        let mut this = Self {
            before: Vec::new(),
            _lock: lock,
        };
        for (name, value) in values {
            let path = format!("{directory}/{name}");
            let before = read(&path);
            // Of `always [madvise] never` only the word in brackets can be written back.
            let chosen = before.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
            let before = chosen.map_or(before.as_str(), |(word, _)| word).to_owned();
            this.before.push((path.clone(), before));
            fs::write(&path, value)
                .unwrap_or_else(|error| panic!("cannot set {path}, needs root or the lab: {error}"));
        }
        this
    }
}

impl Drop for Settings {
    fn drop(&mut self) {
        for (path, value) in &self.before {
            let _ = fs::write(path, value);
        }
    }
}
