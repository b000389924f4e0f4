//! What /proc says about mappings. See proc_pid_smaps(5) and proc_pid_numa_maps(5).

use std::collections::{BTreeMap, BTreeSet};
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

/// The entries of some mappings, by their addresses.
pub(crate) type Entries<T> = BTreeMap<u64, T>;

/// Reads the smaps entry of `mapping`.
pub(crate) fn smaps(mapping: &Mapping) -> io::Result<Smaps> {
    let found = all_smaps(&[mapping])?.pop_first();
    let (_, found) = found.ok_or_else(not_found)?;
    Ok(found)
}

/// Reads the smaps entries of several mappings. The kernel walks the pages of everything before the last of them, so that
/// they are read in one go.
pub(crate) fn all_smaps(mappings: &[&Mapping]) -> io::Result<Entries<Smaps>> {
    let file = BufReader::new(File::open("/proc/self/smaps")?);
    let found = find_smaps(file, &addresses(mappings))?;
    if found.len() < mappings.len() {
        return Err(not_found());
    }
    Ok(found)
}

/// Reads the numa_maps line of `mapping`; `None` on a kernel without NUMA.
pub(crate) fn numa_maps(mapping: &Mapping) -> io::Result<Option<NumaMaps>> {
    Ok(all_numa_maps(&[mapping])?.into_values().next())
}

/// Reads the numa_maps lines of several mappings, in one go as [`all_smaps`]; none on a kernel without NUMA.
pub(crate) fn all_numa_maps(mappings: &[&Mapping]) -> io::Result<Entries<NumaMaps>> {
    let file = match File::open("/proc/self/numa_maps") {
        Ok(file) => BufReader::new(file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Entries::new()),
        Err(error) => return Err(error),
    };
    find_numa_maps(file, &addresses(mappings))
}

/// What of this process is swapped out and belongs to it alone (`VmSwap` of proc_pid_status(5)), which the kernel knows
/// without a walk.
pub(crate) fn swapped_privately() -> io::Result<ByteSize> {
    let text = std::fs::read_to_string("/proc/self/status")?;
    let number = text.lines().find_map(|line| line.strip_prefix("VmSwap:"));
    let number = number.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    // A kernel without swap has no such line.
    Ok(ByteSize::from_bytes(number.unwrap_or(0).saturating_mul(1024)))
}

fn not_found() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "mapping not in /proc/self/smaps")
}

fn addresses(mappings: &[&Mapping]) -> BTreeSet<u64> {
    mappings.iter().map(|mapping| mapping.address()).collect()
}

/// The entries whose ranges start at `starts`. Entries after the last of them are not read, so the kernel does not gather them.
fn find_smaps(text: impl BufRead, starts: &BTreeSet<u64>) -> io::Result<Entries<Smaps>> {
    let mut found = Entries::<Smaps>::new();
    let mut current = None;
    for line in text.split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        let Some((name, rest)) = line.split_once(':').filter(|(name, _)| !name.contains(' ')) else {
            // A range of addresses begins the next entry. (A path in it may have a colon, but a space comes before.)
            if found.len() == starts.len() {
                break;
            }
            current = range_start(&line).filter(|start| starts.contains(start));
            continue;
        };
        let Some(start) = current else { continue };
        let entry = found.entry(start).or_default();
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

/// The lines whose ranges start at `starts`.
fn find_numa_maps(text: impl BufRead, starts: &BTreeSet<u64>) -> io::Result<Entries<NumaMaps>> {
    let mut found = Entries::new();
    for line in text.split(b'\n') {
        if found.len() == starts.len() {
            break;
        }
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        if let Some((address, rest)) = line.split_once(' ')
            && let Ok(start) = u64::from_str_radix(address, 16)
            && starts.contains(&start)
        {
            found.insert(start, parse_numa_maps(rest));
        }
    }
    Ok(found)
}

/// A line without its address.
fn parse_numa_maps(rest: &str) -> NumaMaps {
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
    found
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
