//! Which pages of a mapping are there, from its page table (`PAGEMAP_SCAN`, Linux 6.7 and newer).

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsFd;

use crate::mapping::Mapping;
use crate::sys::{self, PageRun};

/// How much is looked at with the address space locked: faults of the guest go on meanwhile, a change of mappings waits some
/// milliseconds. No less than the largest page, so that no page is seen in parts.
const STEP: u64 = 1 << 30;
/// Runs that one call finds: of huge pages, and of what is not there.
const RUNS: usize = 1024;

/// The page table of this process.
#[derive(Debug)]
pub(crate) struct Pagemap(File);

/// Pages that lie one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pages {
    /// Their addresses.
    pub(crate) range: Range<u64>,
    /// Whether the page table has them as pages larger than 4 KiB.
    pub(crate) huge: bool,
}

impl Pagemap {
    /// # Errors
    /// When there is no /proc.
    pub(crate) fn open() -> io::Result<Self> {
        File::open("/proc/self/pagemap").map(Self)
    }

    /// Shows all pages of `mapping` that are there, but for the kernel's page of zeroes, which costs the host nothing.
    ///
    /// # Errors
    /// `ENOTTY` on an older kernel.
    pub(crate) fn scan(&self, mapping: &Mapping, mut show: impl FnMut(&Pages)) -> io::Result<()> {
        let mut runs = vec![PageRun::default(); RUNS];
        let mut show = |range: Range<u64>, huge| {
            if !range.is_empty() {
                show(&Pages { range, huge });
            }
        };
        let (mut next, end) = (mapping.address(), mapping.address() + mapping.len());
        while next < end {
            let step = next..end.min(next.saturating_add(STEP));
            let (found, walked) = sys::scan_pages(self.0.as_fd(), step, &mut runs)?;
            let runs = &runs[..found.min(RUNS)];
            // Linux up to 6.18 at least: a walk that filled the kernel's own buffer of 512 runs, and then came to the end, says
            // that it ended where the buffer was full.
            let walked = runs.last().map_or(walked, |last| walked.max(last.end));
            if walked <= next {
                return Err(io::Error::other(
                    "the kernel's walk of the page table does not move",
                ));
            }
            // What was walked and is in no run are pages of 4 KiB.
            for run in runs {
                show(next..run.start, false);
                if run.is_huge() {
                    show(run.start..run.end, true);
                }
                next = run.end;
            }
            show(next..walked, false);
            next = walked;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
