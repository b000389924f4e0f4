//! The limit of every preallocation: a loop over MADV_POPULATE_WRITE and nothing else.

use std::fmt;
use std::io::{Read, stdin};
use std::thread;

use memmap2::{Advice, MmapMut, MmapOptions};

use crate::lab::{Error, Result};

/// The hidden command of `lab` that runs it.
pub const COMMAND: &str = "bench-populate";
/// How much one call populates, in bytes.
const CHUNK: usize = 256 << 20;
/// The binary logarithm of a huge page's size.
const HUGE_BITS: u8 = 21;

/// What the memory consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    /// Base pages.
    Base,
    /// Transparent huge pages.
    Transparent,
    /// Pages of 2 MiB from the pool.
    Huge,
}

/// All of them.
pub const PAGES: [Page; 3] = [Page::Base, Page::Transparent, Page::Huge];

impl Page {
    /// Its name, in figures and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Page::Base => "4k",
            Page::Transparent => "thp",
            Page::Huge => "2m",
        }
    }

    /// The page of a name.
    pub fn parse(name: &str) -> Option<Page> {
        PAGES.into_iter().find(|page| page.name() == name)
    }
}

impl fmt::Display for Page {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

/// Populates as the words say (pages, bytes, threads), and holds it until the input ends.
pub fn run(words: &[String]) -> Result<u8> {
    let usage = || Error::Usage(format!("{COMMAND} takes pages, bytes and threads, not {words:?}"));
    let [page, size, threads] = words else {
        return Err(usage());
    };
    let page = Page::parse(page).ok_or_else(usage)?;
    let (Ok(size), Ok(threads)) = (size.parse::<usize>(), threads.parse::<usize>()) else {
        return Err(usage());
    };
    let _memory = populate(page, size, threads.max(1)).map_err(|source| Error::Start {
        command: COMMAND.into(),
        source,
    })?;
    stdin().read_to_end(&mut Vec::new()).ok();
    Ok(0)
}

fn populate(page: Page, size: usize, threads: usize) -> std::io::Result<MmapMut> {
    let mut options = MmapOptions::new();
    options.len(size);
    if page == Page::Huge {
        options.huge(Some(HUGE_BITS));
    }
    let memory = options.map_anon()?;
    if page == Page::Transparent {
        memory.advise(Advice::HugePage)?;
    }
    // Transparent huge pages begin at multiples of their size only.
    let part = size.div_ceil(threads).next_multiple_of(1 << HUGE_BITS);
    let populate = |from: usize| {
        let end = (from + part).min(size);
        (from..end)
            .step_by(CHUNK)
            .try_for_each(|at| memory.advise_range(Advice::PopulateWrite, at, CHUNK.min(end - at)))
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..size)
            .step_by(part)
            .map(|from| scope.spawn(move || populate(from)))
            .collect();
        workers.into_iter().try_for_each(|worker| {
            let lost = || std::io::Error::other("a thread was lost");
            worker.join().map_err(|_| lost())?
        })
    })?;
    Ok(memory)
}

#[cfg(test)]
mod tests;
