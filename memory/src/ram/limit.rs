//! Limits of control groups on huge pages, which the kernel names in no error.

use std::fmt;

use super::shortage::Claim;
use crate::host::cgroup::{self, Limit};
use crate::size::{ByteSize, PageSize};

/// A control group allows fewer huge pages than a guest needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OverLimit {
    /// `backend 'mem0' needs`
    who: String,
    page: PageSize,
    needed: u64,
    limit: Limit,
}

/// Checks what the backends of a guest claim together against the limits that this process is under.
///
/// # Errors
/// The first page size with too low a limit.
pub(super) fn check(claims: &[(&str, Claim)]) -> Result<(), OverLimit> {
    check_against(claims, cgroup::huge_pages)
}

fn check_against(
    claims: &[(&str, Claim)],
    limit: impl Fn(PageSize) -> Option<Limit>,
) -> Result<(), OverLimit> {
    for page in [PageSize::HUGE_2M, PageSize::HUGE_1G] {
        let of_page: Vec<_> = claims.iter().filter(|(_, claim)| claim.page == page).collect();
        let needed = of_page.iter().map(|(_, claim)| claim.pages).sum();
        if needed == 0 {
            continue;
        }
        if let Some(limit) = limit(page).filter(|limit| limit.left().pages(page) < needed) {
            let names: Vec<_> = of_page.iter().map(|(id, _)| format!("'{id}'")).collect();
            let who = match &names[..] {
                [one] => format!("backend {one} needs"),
                several => format!("backends {} need together", several.join(", ")),
            };
            return Err(OverLimit {
                who,
                page,
                needed,
                limit,
            });
        }
    }
    Ok(())
}

impl std::error::Error for OverLimit {}

/// `backend 'mem0' needs 64 pages of 2 MiB (128 MiB): 100 MiB of 100 MiB left by /sys/fs/cgroup/…`, and what to do.
impl fmt::Display for OverLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            who,
            page,
            needed,
            limit,
        } = self;
        let bytes = needed.saturating_mul(page.bytes());
        let used = limit.current.bytes();
        write!(
            f,
            "{who} {needed} pages of {page} ({}): {limit}; raise that limit (echo {} > {}) or make the guest smaller",
            ByteSize::from_bytes(bytes),
            used.saturating_add(bytes),
            limit.file.display()
        )
    }
}

#[cfg(test)]
mod tests;
