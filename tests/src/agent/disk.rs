//! Work on a disk: blocks at random places that tell who wrote them, and as much of it as goes in some time.
//!
//! Places and contents follow from a seed, so that whoever reads a disk later knows what must be where.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use std::{fmt, thread};

use rustix::fs::OFlags;

/// What O_DIRECT asks of buffers.
const ALIGNMENT: usize = 4096;

/// Blocks at random places of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Series {
    /// What places and contents follow from.
    pub seed: u64,
    /// Bytes of a block, a multiple of 4096.
    pub block: usize,
    /// How many are written, one after the other.
    pub count: u64,
    /// After so many there is a flush.
    pub every: u64,
}

impl Series {
    /// Where the write with this number goes on a disk with so many blocks.
    pub fn slot(&self, number: u64, slots: u64) -> u64 {
        mix(self.seed ^ mix(number)) % slots.max(1)
    }

    /// Which write was the last one to each block, after the first `written`.
    pub fn last(&self, written: u64, slots: u64) -> BTreeMap<u64, u64> {
        (0..written)
            .map(|number| (self.slot(number, slots), number))
            .collect()
    }

    /// What a write writes.
    pub fn fill(&self, block: &mut [u8], number: u64) {
        let mut word = mix(self.seed.rotate_left(32) ^ number);
        for part in block.chunks_mut(8) {
            word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let bytes = mix(word).to_le_bytes();
            part.copy_from_slice(&bytes[..part.len()]);
        }
    }

    /// Writes all, and tells after each flush how many are safe.
    pub fn write(&self, path: &str, mut flushed: impl FnMut(u64) -> io::Result<()>) -> io::Result<()> {
        let (file, slots) = open(path, self.block, true)?;
        let mut memory = aligned(self.block);
        let block = within(&mut memory, self.block);
        for number in 0..self.count {
            self.fill(block, number);
            file.write_all_at(block, self.slot(number, slots) * self.block as u64)?;
            let done = number + 1;
            if done.is_multiple_of(self.every.max(1)) || done == self.count {
                file.sync_data()?;
                flushed(done)?;
            }
        }
        Ok(())
    }

    /// Reads all, and returns the blocks that are not what was written last.
    pub fn verify(&self, path: &str) -> io::Result<Vec<u64>> {
        let (file, slots) = open(path, self.block, false)?;
        let (mut memory, mut expected) = (aligned(self.block), vec![0; self.block]);
        let block = within(&mut memory, self.block);
        let mut wrong = Vec::new();
        for (slot, number) in self.last(self.count, slots) {
            file.read_exact_at(block, slot * self.block as u64)?;
            self.fill(&mut expected, number);
            if *block != *expected {
                wrong.push(slot);
            }
        }
        Ok(wrong)
    }
}

impl fmt::Display for Series {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {} {} {}", self.seed, self.block, self.count, self.every)
    }
}

impl Series {
    /// Reads the words that `Display` writes.
    pub fn parse(words: &[&str]) -> Option<Series> {
        let [seed, block, count, every] = words else {
            return None;
        };
        Some(Series {
            seed: seed.parse().ok()?,
            block: block.parse().ok()?,
            count: count.parse().ok()?,
            every: every.parse().ok()?,
        })
    }
}

/// Reads or writes at full speed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Writes, not reads.
    pub writes: bool,
    /// At random places, not one after the other.
    pub random: bool,
    /// Bytes of a block, a multiple of 4096.
    pub block: usize,
    /// How many threads do so, each with one block at a time.
    pub threads: u32,
    /// For how long.
    pub milliseconds: u64,
}

/// What a load came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Done {
    /// Blocks that were moved.
    pub blocks: u64,
    /// In that time.
    pub took: Duration,
}

impl Load {
    /// Does it.
    pub fn run(&self, path: &str) -> io::Result<Done> {
        let (next, start) = (AtomicU64::new(0), Instant::now());
        let work = || -> io::Result<u64> {
            let (file, slots) = open(path, self.block, self.writes)?;
            let mut memory = aligned(self.block);
            let block = within(&mut memory, self.block);
            block.fill(0xb5);
            let mut blocks = 0;
            while start.elapsed() < Duration::from_millis(self.milliseconds) {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let place = if self.random { mix(number) } else { number };
                let offset = place % slots.max(1) * self.block as u64;
                if self.writes {
                    file.write_all_at(block, offset)?;
                } else {
                    file.read_exact_at(block, offset)?;
                }
                blocks += 1;
            }
            Ok(blocks)
        };
        let blocks = thread::scope(|scope| {
            let threads: Vec<_> = (0..self.threads).map(|_| scope.spawn(work)).collect();
            let mut sum = 0;
            for thread in threads {
                sum += thread
                    .join()
                    .map_err(|_| io::Error::other("a thread panicked"))??;
            }
            io::Result::Ok(sum)
        })?;
        Ok(Done {
            blocks,
            took: start.elapsed(),
        })
    }

    /// Reads the words that `Display` writes.
    pub fn parse(words: &[&str]) -> Option<Load> {
        let [kind, block, threads, milliseconds] = words else {
            return None;
        };
        let (writes, random) = match *kind {
            "read" => (false, false),
            "write" => (true, false),
            "randread" => (false, true),
            "randwrite" => (true, true),
            _ => return None,
        };
        Some(Load {
            writes,
            random,
            block: block.parse().ok()?,
            threads: threads.parse().ok()?,
            milliseconds: milliseconds.parse().ok()?,
        })
    }
}

impl fmt::Display for Load {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let random = if self.random { "rand" } else { "" };
        let kind = if self.writes { "write" } else { "read" };
        write!(
            out,
            "{random}{kind} {} {} {}",
            self.block, self.threads, self.milliseconds
        )
    }
}

impl fmt::Display for Done {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {}", self.blocks, self.took.as_micros())
    }
}

impl Done {
    /// Reads what `Display` writes.
    pub fn parse(text: &str) -> Option<Done> {
        let (blocks, micros) = text.trim().split_once(' ')?;
        Some(Done {
            blocks: blocks.parse().ok()?,
            took: Duration::from_micros(micros.parse().ok()?),
        })
    }
}

/// Opens a disk past the page cache; with it, how many blocks it has.
fn open(path: &str, block: usize, writes: bool) -> io::Result<(File, u64)> {
    let direct = OFlags::DIRECT.bits().cast_signed();
    let mut options = OpenOptions::new();
    let mut file = options.read(true).write(writes).custom_flags(direct).open(path)?;
    let size = file.seek(SeekFrom::End(0))?;
    Ok((file, size / (block as u64).max(1)))
}

fn aligned(block: usize) -> Vec<u8> {
    vec![0; block + ALIGNMENT]
}

/// The aligned part of [`aligned`] memory.
fn within(memory: &mut [u8], block: usize) -> &mut [u8] {
    let start = memory.as_ptr().align_offset(ALIGNMENT);
    &mut memory[start..start + block]
}

/// A number that looks random: the last steps of splitmix64.
fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests;
