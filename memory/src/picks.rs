//! Some of many pages, chosen evenly: each stretch of equal length gives one, at random. Pure.
//!
//! At random, since pages that are interleaved between nodes follow a rhythm, and a fixed step could hear one node only.

/// All pages that it was shown, or where they are too many, some of them.
#[derive(Clone, Debug)]
pub(crate) struct Picks {
    /// So many may be chosen. A power of two.
    limit: usize,
    /// What becomes the limit once it was reached. A power of two.
    some: usize,
    /// Addresses, in the order shown.
    chosen: Vec<u64>,
    /// Pages that one chosen page stands for. A power of two.
    stretch: u64,
    /// Pages of the last stretch that were shown.
    shown: u64,
    /// Which page of the last stretch is chosen.
    lucky: u64,
    /// State of the random numbers.
    seed: u64,
}

impl Picks {
    /// None yet. Up to `all` pages are all chosen; of more, at most `some`. Both are rounded up to powers of two.
    pub(crate) fn new(all: usize, some: usize) -> Self {
        let power = |limit: usize| limit.max(2).next_power_of_two();
        Self {
            limit: power(all),
            some: power(some).min(power(all)),
            chosen: Vec::new(),
            stretch: 1,
            shown: 0,
            lucky: 0,
            seed: 0,
        }
    }

    /// Shows `count` pages from `address` on, each of `page` bytes.
    pub(crate) fn show(&mut self, mut address: u64, page: u64, mut count: u64) {
        while count > 0 {
            if self.shown == 0 {
                self.begin_stretch();
            }
            let now = count.min(self.stretch - self.shown);
            if let Some(ahead) = self.lucky.checked_sub(self.shown).filter(|ahead| *ahead < now) {
                self.chosen.push(address + ahead * page);
            }
            self.shown = (self.shown + now) % self.stretch;
            address += now * page;
            count -= now;
        }
    }

    /// Those that were chosen.
    pub(crate) fn addresses(&self) -> &[u64] {
        &self.chosen
    }

    /// How many pages each of them stands for; with 1 they are all that there are.
    pub(crate) fn stretch(&self) -> u64 {
        self.stretch
    }

    fn begin_stretch(&mut self) {
        if self.chosen.len() == self.limit {
            self.limit = self.some;
        }
        while self.chosen.len() >= self.limit {
            // Two stretches become one, which keeps the choice of either.
            let pairs = self.chosen.len() / 2;
            for pair in 0..pairs {
                let either = usize::from(self.random(2) == 1);
                self.chosen[pair] = self.chosen[2 * pair + either];
            }
            self.chosen.truncate(pairs);
            self.stretch *= 2;
        }
        self.lucky = self.random(self.stretch);
    }

    /// A number below `bound`, a power of two (SplitMix64). The same each time, so that two samples differ only where the pages
    /// do.
    fn random(&mut self, bound: u64) -> u64 {
        self.seed = self.seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.seed ^ (self.seed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) & (bound - 1)
    }
}

#[cfg(test)]
mod tests;
