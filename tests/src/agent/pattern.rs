//! A pattern in memory: every word says where it stands, so that a lost, zeroed or misplaced page is seen.

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

/// The word at a place: cheap, because guests in nested emulation write gigabytes of these.
fn word(seed: u64, index: usize) -> u64 {
    (index as u64 ^ seed.rotate_left(40)).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ seed
}

#[cfg(test)]
mod tests;
