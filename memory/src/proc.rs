//! What /proc says about one mapping. See proc_pid_smaps(5) and proc_pid_numa_maps(5).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader};

use crate::mapping::Mapping;
use crate::size::ByteSize;

/// The figures of /proc/self/smaps for one mapping.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Smaps {
    /// Name and number, as it is written: most are KiB.
    fields: BTreeMap<String, u64>,
    /// `VmFlags`, two letters each.
    flags: Vec<String>,
}

impl Smaps {
    /// A field in KiB; 0 where the kernel does not have it.
    pub(crate) fn size(&self, name: &str) -> ByteSize {
        ByteSize::from_bytes(self.number(name).saturating_mul(1024))
    }

    /// A field without a unit; 0 where the kernel does not have it.
    pub(crate) fn number(&self, name: &str) -> u64 {
        self.fields.get(name).copied().unwrap_or(0)
    }

    /// Whether `VmFlags` has a flag.
    pub(crate) fn flag(&self, name: &str) -> bool {
        self.flags.iter().any(|flag| flag == name)
    }
}

/// The line of /proc/self/numa_maps for one mapping.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct NumaMaps {
    /// The policy as the kernel writes it: `default`, `bind:0-1`, `prefer (many):0-1`.
    pub(crate) policy: String,
    /// KiB of a page.
    pub(crate) page_kib: u64,
    /// Pages on each node that has some.
    pub(crate) nodes: BTreeMap<u32, u64>,
}

/// Reads the smaps entry of `mapping`.
pub(crate) fn smaps(mapping: &Mapping) -> io::Result<Smaps> {
    let file = BufReader::new(File::open("/proc/self/smaps")?);
    let found = find_smaps(file, mapping.address())?;
    found.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "mapping not in /proc/self/smaps"))
}

/// Reads the numa_maps line of `mapping`; `None` on a kernel without NUMA.
pub(crate) fn numa_maps(mapping: &Mapping) -> io::Result<Option<NumaMaps>> {
    let file = match File::open("/proc/self/numa_maps") {
        Ok(file) => BufReader::new(file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    find_numa_maps(file, mapping.address())
}

/// The entry whose range starts at `start`. Entries after it are not read, so the kernel does not gather them.
fn find_smaps(text: impl BufRead, start: u64) -> io::Result<Option<Smaps>> {
    let mut found: Option<Smaps> = None;
    for line in text.split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        let Some((name, rest)) = line.split_once(':').filter(|(name, _)| !name.contains(' ')) else {
            // A range of addresses begins the next entry. (A path in it may have a colon, but a space comes before.)
            if found.is_some() {
                break;
            }
            if range_start(&line) == Some(start) {
                found = Some(Smaps::default());
            }
            continue;
        };
        let Some(entry) = &mut found else { continue };
        if name == "VmFlags" {
            entry.flags = rest.split_whitespace().map(str::to_owned).collect();
        } else if let Some(Ok(number)) = rest.split_whitespace().next().map(str::parse) {
            entry.fields.insert(name.to_owned(), number);
        }
    }
    Ok(found)
}

/// The first address of `7f0000000000-7f0000200000 rw-p …`.
fn range_start(line: &str) -> Option<u64> {
    u64::from_str_radix(line.split_once('-')?.0, 16).ok()
}

/// The line whose range starts at `start`.
fn find_numa_maps(text: impl BufRead, start: u64) -> io::Result<Option<NumaMaps>> {
    for line in text.split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        let Some((address, rest)) = line.split_once(' ') else {
            continue;
        };
        if u64::from_str_radix(address, 16) != Ok(start) {
            continue;
        }
        let policy = policy_len(rest);
        let mut found = NumaMaps {
            policy: rest[..policy].to_owned(),
            page_kib: 4,
            nodes: BTreeMap::new(),
        };
        let words = rest[policy..].split_whitespace();
        for (name, value) in words.filter_map(|word| word.split_once('=')) {
            let node = name.strip_prefix('N').and_then(|node| node.parse().ok());
            match (node, value.parse()) {
                (Some(node), Ok(pages)) => {
                    found.nodes.insert(node, pages);
                }
                (None, Ok(kib)) if name == "kernelpagesize_kB" => found.page_kib = kib,
                _ => {}
            }
        }
        return Ok(Some(found));
    }
    Ok(None)
}

/// The length of the policy at the start of a line. Two of them have a space inside (mpol_to_str() in mm/mempolicy.c).
fn policy_len(text: &str) -> usize {
    let spaced = ["prefer (many)", "weighted interleave"];
    let name = spaced.iter().find(|name| text.starts_with(**name));
    let name = name.map_or(0, |name| name.len());
    text[name..].find(' ').map_or(text.len(), |at| name + at)
}

#[cfg(test)]
mod tests;
