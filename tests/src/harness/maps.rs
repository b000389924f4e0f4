//! What the host's kernel says about a process's memory: `/proc/PID/smaps` and `/proc/PID/numa_maps` (proc(5)).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::{Error, Result};

/// Mappings of at least this size are guest RAM: nothing else of Ballast comes near.
const GUEST_MEMORY: u64 = 48 << 20;

/// One mapping.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mapping {
    /// The first address.
    pub start: u64,
    /// The address after the last.
    pub end: u64,
    /// Whether it is shared.
    pub shared: bool,
    /// Where it begins in its file.
    pub offset: u64,
    /// The file behind it, or a name in brackets, or nothing.
    pub name: String,
    /// The fields in kB, in bytes here: `Rss`, `Private_Hugetlb`, …
    pub fields: BTreeMap<String, u64>,
    /// The two-letter marks of `VmFlags`.
    pub flags: Vec<String>,
}

impl Mapping {
    /// Its size in bytes.
    pub fn size(&self) -> u64 {
        self.end - self.start
    }

    /// Whether `VmFlags` has a mark.
    pub fn has_flag(&self, flag: &str) -> bool {
        self.flags.iter().any(|found| found == flag)
    }

    /// A field in bytes, 0 where the kernel does not tell it.
    pub fn field(&self, name: &str) -> u64 {
        self.fields.get(name).copied().unwrap_or(0)
    }

    /// Bytes that the host holds for it: base and transparent huge pages, and those of hugetlb.
    pub fn resident(&self) -> u64 {
        self.field("Rss") + self.field("Shared_Hugetlb") + self.field("Private_Hugetlb")
    }
}

/// Every mapping of a process.
pub fn smaps(pid: u32) -> Result<Vec<Mapping>> {
    let path = PathBuf::from(format!("/proc/{pid}/smaps"));
    let text = fs::read_to_string(&path).map_err(Error::file("read", &path))?;
    Ok(parse_smaps(&text))
}

/// The mappings that are guest RAM.
pub fn guest_memory(pid: u32) -> Result<Vec<Mapping>> {
    // Allocators reserve large ranges too, but cannot write to them yet.
    let is_ram = |mapping: &Mapping| mapping.size() >= GUEST_MEMORY && mapping.has_flag("wr");
    Ok(smaps(pid)?.into_iter().filter(is_ram).collect())
}

/// Bytes that the host holds for guest RAM.
pub fn guest_resident(pid: u32) -> Result<u64> {
    Ok(guest_memory(pid)?.iter().map(Mapping::resident).sum())
}

/// Bytes that a process holds, without those of hugetlb: cheap enough to ask for often, and less exact than smaps.
pub fn statm_resident(pid: u32) -> Result<u64> {
    let path = PathBuf::from(format!("/proc/{pid}/statm"));
    let text = fs::read_to_string(&path).map_err(Error::file("read", &path))?;
    let pages = text
        .split_whitespace()
        .nth(1)
        .and_then(|word| word.parse::<u64>().ok());
    pages.map(|pages| pages * 4096).ok_or_else(|| Error::Format {
        path,
        what: "resident pages".into(),
    })
}

/// Bytes of a mapping on each node, from its line in `numa_maps`.
pub fn node_bytes(pid: u32, mapping: &Mapping) -> Result<BTreeMap<u32, u64>> {
    numa_line(pid, mapping).map(|line| parse_numa(&line))
}

/// The line of `numa_maps` that begins with a mapping's address.
pub fn numa_line(pid: u32, mapping: &Mapping) -> Result<String> {
    let path = PathBuf::from(format!("/proc/{pid}/numa_maps"));
    let text = fs::read_to_string(&path).map_err(Error::file("read", &path))?;
    let address = format!("{:08x} ", mapping.start);
    let line = text.lines().find(|line| line.starts_with(&address));
    line.map(str::to_owned).ok_or_else(|| Error::Format {
        path,
        what: format!("line for {address}"),
    })
}

/// A figure of a process that stands alone in a file, as `ksm_merging_pages`, or behind a name, as in `status`.
pub fn figure(pid: u32, file: &str, name: Option<&str>) -> Result<u64> {
    let path = Path::new("/proc").join(pid.to_string()).join(file);
    let text = fs::read_to_string(&path).map_err(Error::file("read", &path))?;
    let value = match name {
        None => Some(text.as_str()),
        Some(name) => text.lines().find_map(|line| line.strip_prefix(name)),
    };
    let number = value.and_then(|value| {
        value
            .trim_start_matches(':')
            .split_whitespace()
            .next()
            .and_then(|word| word.parse().ok())
    });
    number.ok_or_else(|| Error::Format {
        path,
        what: name.unwrap_or("number").to_owned(),
    })
}

/// Bytes that the files behind shared mappings hold (`st_blocks`), each file once; also of files without a name.
pub fn file_bytes(pid: u32, mappings: &[Mapping]) -> Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut files = BTreeMap::new();
    for mapping in mappings {
        let name = format!("{:x}-{:x}", mapping.start, mapping.end);
        let path = Path::new("/proc")
            .join(pid.to_string())
            .join("map_files")
            .join(name);
        let data = fs::metadata(&path).map_err(Error::file("find", &path))?;
        files.insert((data.dev(), data.ino()), data.blocks() * 512);
    }
    Ok(files.values().sum())
}

fn parse_smaps(text: &str) -> Vec<Mapping> {
    let mut mappings: Vec<Mapping> = Vec::new();
    for line in text.lines() {
        if let Some(mapping) = parse_header(line) {
            mappings.push(mapping);
        } else if let (Some(mapping), Some((key, value))) = (mappings.last_mut(), line.split_once(':')) {
            let mut words = value.split_whitespace();
            if key == "VmFlags" {
                mapping.flags = words.map(str::to_owned).collect();
            } else if let Some(Ok(number)) = words.next().map(str::parse::<u64>) {
                let unit = if words.next() == Some("kB") { 1024 } else { 1 };
                mapping.fields.insert(key.to_owned(), number * unit);
            }
        }
    }
    mappings
}

/// `START-END PERMISSIONS OFFSET DEVICE INODE NAME`
fn parse_header(line: &str) -> Option<Mapping> {
    let mut words = line.split_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let permissions = words.next()?;
    let offset = u64::from_str_radix(words.next()?, 16).ok()?;
    let name = words.skip(2).collect::<Vec<_>>().join(" ");
    Some(Mapping {
        start: u64::from_str_radix(start, 16).ok()?,
        end: u64::from_str_radix(end, 16).ok()?,
        shared: permissions.ends_with('s'),
        offset,
        name,
        ..Mapping::default()
    })
}

/// `ADDRESS POLICY … N0=PAGES N1=PAGES kernelpagesize_kB=SIZE`
fn parse_numa(line: &str) -> BTreeMap<u32, u64> {
    let pairs = || line.split_whitespace().filter_map(|word| word.split_once('='));
    let page = pairs().find(|(key, _)| *key == "kernelpagesize_kB");
    let page = page.and_then(|(_, size)| size.parse::<u64>().ok()).unwrap_or(4) * 1024;
    let node = |(key, pages): (&str, &str)| {
        Some((
            key.strip_prefix('N')?.parse().ok()?,
            pages.parse::<u64>().ok()? * page,
        ))
    };
    pairs().filter_map(node).collect()
}

#[cfg(test)]
mod tests;
