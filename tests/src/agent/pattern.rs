//! A pattern in memory: every word says where it stands, so that a lost, zeroed or misplaced page is seen.

use std::hint::black_box;

/// Words in a MiB.
const WORDS_PER_MEBIBYTE: usize = (1 << 20) / size_of::<u64>();

/// Memory that holds a pattern.
#[derive(Debug)]
pub struct Pattern {
    seed: u64,
    words: Vec<u64>,
}

impl Pattern {
    /// Takes memory and writes the pattern of a seed to it; `None` when there is not so much.
    pub fn write(seed: u64, mebibytes: usize) -> Option<Pattern> {
        let count = mebibytes.checked_mul(WORDS_PER_MEBIBYTE)?;
        let mut words = Vec::new();
        words.try_reserve_exact(count).ok()?;
        words.extend((0..count).map(|index| word(seed, index)));
        Some(Pattern { seed, words })
    }

    /// How many words are not what was written.
    pub fn damaged(&self) -> usize {
        self.words
            .iter()
            .enumerate()
            .filter(|(index, found)| **found != word(self.seed, *index))
            .count()
    }
}

/// Takes memory, writes to each of its pages, and gives it back; `false` when there is not so much.
pub fn touch(mebibytes: usize) -> bool {
    let mut bytes: Vec<u8> = Vec::new();
    let Some(count) = mebibytes
        .checked_mul(1 << 20)
        .filter(|count| bytes.try_reserve_exact(*count).is_ok())
    else {
        return false;
    };
    bytes.resize(count, 1);
    black_box(&bytes);
    true
}

/// The word at a place: cheap, because guests in nested emulation write gigabytes of these.
fn word(seed: u64, index: usize) -> u64 {
    (index as u64 ^ seed.rotate_left(40)).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ seed
}

#[cfg(test)]
mod tests;
