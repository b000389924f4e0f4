//! Guest RAM and the host memory behind it.
//!
//! This crate knows no KVM, no virtio and no JSON. It answers four questions about the memory of a guest: where each page
//! comes from ([`backend`]), where the guest sees it ([`layout`], [`region`]), how it goes back to the host
//! ([`release::Releaser`]), and how one knows ([`effective`], [`residency`], [`host`]).
//!
//! # How each backend gives memory back
//!
//! The wrong call often returns 0 and frees nothing, so the choice is made by the backend that opened the mapping, and
//! [`backend::Backend::release`] has no default.
//!
//! | backend | mapping | release | never |
//! |---|---|---|---|
//! | anonymous | `MAP_PRIVATE`, no file | `MADV_DONTNEED`, locked `MADV_DONTNEED_LOCKED` | |
//! | memfd, tmpfs | `MAP_SHARED` | `MADV_REMOVE`, locked a hole in the file | `MADV_DONTNEED`: returns 0, frees nothing |
//! | hugetlb memfd, hugetlbfs | `MAP_SHARED` | `MADV_REMOVE` of whole huge pages | less than a huge page: zeroes, frees nothing |
//! | file on a disk, `share=on` | `MAP_SHARED` | as memfd with `discard-data=on`, else none | past the end of the guest's part |
//! | file, `share=off` | `MAP_PRIVATE` | none | `MADV_DONTNEED`: the file's bytes come back |
//!
//! Private and shared memory that lost pieces of 2 MiB gets no more transparent huge pages until the guest has all of it
//! back: khugepaged would fill the holes ([`ram::Ram::all_in_use`]).
//!
//! # Rooms for unsafe code
//!
//! `sys` and `mapping`, nowhere else. [`mapping::Mapping`] is the only holder of host pointers.

#![deny(unsafe_code)]

pub mod absent;
pub mod backend;
pub mod budget;
pub mod effective;
mod given;
pub mod hints;
pub mod host;
pub mod layout;
pub mod mapping;
mod pagemap;
pub mod partial;
mod picks;
pub mod policy;
pub mod prealloc;
mod proc;
pub mod ram;
pub mod range;
pub mod region;
pub mod release;
pub mod residency;
pub mod size;
mod sys;
#[cfg(test)]
mod testing;
pub mod transfer;

pub use absent::Absent;
pub use backend::{
    Backend, BackendKind, BackendSpec, FileSpec, Lock, MergeRequest, OpenObserver, OpenStage, Placing,
    Prealloc, Released, Thp,
};
pub use effective::Effective;
pub use host::numa::NodeSet;
pub use layout::{Placement, place};
pub use partial::Partial;
pub use policy::HostPolicy;
pub use ram::{Misplaced, OpenBackend, Ram, RamError};
pub use range::{GuestRange, Pfn, merge_pfns};
pub use region::Region;
pub use release::{Reason, Releaser};
pub use residency::Residency;
pub use size::{ByteSize, PageSize, SizeUnit};
