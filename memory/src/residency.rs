//! What the host holds for a backend now. *Freed* means this number before minus this number after.

mod walk;

use std::collections::BTreeMap;
use std::io;

use crate::backend::{Backend, BackendSpec, Held, Prealloc};
use crate::host::{ksm, meminfo};
use crate::mapping::Mapping;
use crate::pagemap::Pagemap;
use crate::policy;
use crate::proc::{self, Entries, NumaMaps, Smaps};
use crate::size::{ByteSize, PageSize};
use walk::Walk;

/// What the host holds for one backend at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Residency {
    /// The backend.
    pub backend: String,
    /// Its size.
    pub size: ByteSize,
    /// What the host holds: resident pages of private memory (smaps `Rss`), blocks of the file for shared memory, which for
    /// hugetlb are the huge pages taken from the pool.
    pub resident: ByteSize,
    /// Swapped out (smaps `Swap`).
    pub swapped: ByteSize,
    /// Of it in transparent huge pages (smaps `AnonHugePages`, `ShmemPmdMapped`).
    pub transparent_huge: ByteSize,
    /// Of it kept in RAM by mlock2(2).
    pub locked: ByteSize,
    /// Of it merged by KSM (smaps `KSM`; 0 before Linux 6.7).
    pub merged: ByteSize,
    /// Of it on nodes that have more than the policy gives them; 0 for a policy without nodes.
    pub misplaced: ByteSize,
    /// Where the pages lie that are mapped: one entry for each node that has some. Empty on a kernel without NUMA.
    pub nodes: Vec<NodeResidency>,
    /// Whether the nodes were asked of all pages; else they are an estimate from thousands of pages chosen at random, and so
    /// is what is misplaced. The sums are exact in any case.
    pub nodes_exact: bool,
}

/// What lies on one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeResidency {
    /// The host node.
    pub node: u32,
    /// The size of the pages of the backend: transparent huge pages count as [`PageSize::BASE`].
    pub page_size: PageSize,
    /// Bytes.
    pub bytes: ByteSize,
    /// Of it in transparent huge pages; `None` where the kernel does not tell (before Linux 6.7).
    pub transparent_huge: Option<ByteSize>,
}

/// A backend whose residency is wanted.
#[derive(Debug)]
pub(crate) struct Subject<'a> {
    pub(crate) spec: &'a BackendSpec,
    pub(crate) backend: &'a dyn Backend,
    pub(crate) mapping: &'a Mapping,
}

/// What the host holds for each of `subjects`.
///
/// The page tables are walked once, where a file in memory does not tell what it holds without that. What a walk does not tell (merged, swapped) is read from smaps, which costs four times as
/// much, where the kernel's totals say that there is some.
///
/// # Errors
/// When /proc or a backing file cannot be read.
pub(crate) fn read(subjects: &[Subject<'_>]) -> io::Result<Vec<Residency>> {
    let mappings: Vec<&Mapping> = subjects.iter().map(|subject| subject.mapping).collect();
    let walks = Pagemap::open().and_then(|pagemap| {
        let walk = |subject: &Subject<'_>| match guess(subject, subjects.len())? {
            Some(walk) => Ok(walk),
            None => Walk::take(
                &pagemap,
                subject.mapping,
                subject.backend.page_size(),
                subjects.len(),
            ),
        };
        subjects.iter().map(walk).collect::<io::Result<Vec<Walk>>>()
    });
    let (walks, smaps) = match walks {
        Ok(walks) if !any_hidden(subjects)? => (walks, Entries::new()),
        Ok(walks) => (walks, proc::all_smaps(&mappings)?),
        Err(error) if is_old_kernel(&error) => {
            let smaps = proc::all_smaps(&mappings)?;
            (walks_of_old(&mappings, &smaps)?, smaps)
        }
        Err(error) => return Err(error),
    };
    let hidden = Smaps::default();
    let all = subjects.iter().zip(walks);
    all.map(|(subject, walk)| {
        let smaps = smaps.get(&subject.mapping.address()).unwrap_or(&hidden);
        residency(subject, &walk, smaps)
    })
    .collect()
}

/// What can be told without a walk: how much a file in memory holds is known, and where it lies is found out from some of its
/// pages. Not how much of it is in huge pages, nor, where it is locked, how much is mapped.
fn guess(subject: &Subject<'_>, sharers: usize) -> io::Result<Option<Walk>> {
    let Subject { backend, mapping, .. } = subject;
    let Held::InFile(held) = backend.held(mapping)? else {
        return Ok(None);
    };
    let in_base_pages = || meminfo::host().size("ShmemPmdMapped") == Some(ByteSize::ZERO);
    if backend.page_size().is_huge() || mapping.is_locked() || !in_base_pages() {
        return Ok(None);
    }
    Walk::guess(mapping, held, sharers)
}

/// What the host holds now for `mapping`, which is `backend`'s; of a file in memory also what is swapped out.
///
/// # Errors
/// When /proc or the backing file cannot be read.
pub(crate) fn resident(backend: &dyn Backend, mapping: &Mapping) -> io::Result<ByteSize> {
    if let Held::InRam(held) | Held::InFile(held) = backend.held(mapping)? {
        return Ok(held);
    }
    let page = backend.page_size();
    match Pagemap::open().and_then(|pagemap| Walk::count(&pagemap, mapping, page)) {
        Ok(walk) => Ok(walk.mapped()),
        Err(error) if is_old_kernel(&error) => Ok(mapped(&proc::smaps(mapping)?)),
        Err(error) => Err(error),
    }
}

fn residency(subject: &Subject<'_>, walk: &Walk, smaps: &Smaps) -> io::Result<Residency> {
    let Subject {
        spec,
        backend,
        mapping,
    } = subject;
    let page_size = backend.page_size();
    let swapped = smaps.size("Swap");
    let resident = match backend.held(mapping)? {
        Held::Mapped => walk.mapped(),
        Held::InRam(held) => held,
        Held::InFile(held) => ByteSize::from_bytes(held.bytes().saturating_sub(swapped.bytes())),
    };
    let numa = NumaMaps {
        page_kib: page_size.bytes() >> 10,
        nodes: (walk.nodes().iter())
            .map(|(node, found)| (*node, found.bytes / page_size.bytes()))
            .collect(),
        ..NumaMaps::default()
    };
    let complete = spec.prealloc == Prealloc::On && resident.bytes() >= mapping.len();
    let misplaced = policy::misplaced(&numa, &spec.policy, complete, walk.doubt());
    let nodes = walk.nodes().iter().map(|(node, found)| NodeResidency {
        node: *node,
        page_size,
        bytes: ByteSize::from_bytes(found.bytes),
        transparent_huge: found.transparent_huge.map(ByteSize::from_bytes),
    });
    let locked = match mapping.is_locked() {
        true => walk.mapped(),
        false => ByteSize::ZERO,
    };
    Ok(Residency {
        backend: spec.id.clone(),
        size: ByteSize::from_bytes(mapping.len()),
        resident,
        swapped,
        transparent_huge: walk.transparent_huge(),
        locked,
        merged: smaps.size("KSM"),
        misplaced: ByteSize::from_bytes(misplaced.values().map(|bytes| bytes.bytes()).sum()),
        nodes: nodes.collect(),
        nodes_exact: walk.doubt() == 0,
    })
}

/// Whether there may be something that a walk does not tell: pages that are merged, or swapped out.
fn any_hidden(subjects: &[Subject<'_>]) -> io::Result<bool> {
    if ksm::own_merges() || proc::swapped_privately()? > ByteSize::ZERO {
        return Ok(true);
    }
    // Nobody tells cheaply what of a file in memory is swapped out, but whether the host has swapped out anything.
    let shared =
        |subject: &Subject<'_>| subject.backend.is_shared() && !subject.backend.page_size().is_huge();
    let host = meminfo::host();
    Ok(subjects.iter().any(shared) && host.size("SwapTotal") != host.size("SwapFree"))
}

/// Before Linux 6.7 page tables cannot be scanned: the kernel does not know the call.
fn is_old_kernel(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOTTY | libc::EINVAL))
}

/// What a walk tells, from smaps and numa_maps.
fn walks_of_old(mappings: &[&Mapping], smaps: &Entries<Smaps>) -> io::Result<Vec<Walk>> {
    let numa = proc::all_numa_maps(mappings)?;
    let walk = |mapping: &&Mapping| {
        let smaps = smaps.get(&mapping.address()).cloned().unwrap_or_default();
        let numa = numa.get(&mapping.address()).cloned().unwrap_or_default();
        let page = numa.page_kib.saturating_mul(1024);
        let bytes = |(node, pages): (&u32, &u64)| (*node, pages.saturating_mul(page));
        let huge = ["AnonHugePages", "ShmemPmdMapped", "FilePmdMapped"].map(|name| smaps.size(name).bytes());
        let nodes: BTreeMap<u32, u64> = numa.nodes.iter().map(bytes).collect();
        Walk::told(mapped(&smaps).bytes(), huge.iter().sum(), nodes)
    };
    Ok(mappings.iter().map(walk).collect())
}

/// What of a mapping is mapped, in pages of any size.
fn mapped(smaps: &Smaps) -> ByteSize {
    let parts = ["Rss", "Shared_Hugetlb", "Private_Hugetlb"].map(|name| smaps.size(name).bytes());
    ByteSize::from_bytes(parts.iter().sum())
}
