//! Why the host does not have what a backend names.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::size::{ByteSize, PageSize};

/// Why a backend cannot be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// No memfd.
    #[error("cannot create a memfd with pages of {page}")]
    CreateMemfd {
        /// The page size asked for.
        page: PageSize,
        /// What the kernel said.
        source: io::Error,
    },
    /// The path cannot be looked at.
    #[error("cannot open mem-path '{}'", path.display())]
    OpenPath {
        /// The path.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A device, a socket or a pipe.
    #[error("mem-path '{}' is neither a directory nor a regular file", path.display())]
    NotFile {
        /// What was named.
        path: PathBuf,
    },
    /// A directory whose files are not memory.
    #[error(
        "mem-path '{}' is a directory on a file system of type {kind:#x}: name a file in it, or a directory on hugetlbfs \
         (as /dev/hugepages) or tmpfs (as /dev/shm)",
        path.display()
    )]
    FileSystem {
        /// The directory.
        path: PathBuf,
        /// The type that statfs(2) gives.
        kind: u64,
    },
    /// A property of files with a name, for a directory.
    #[error("{property} is for a file with a name, but mem-path '{}' is a directory", path.display())]
    ForNamedFiles {
        /// The property as it was typed.
        property: &'static str,
        /// The directory.
        path: PathBuf,
    },
    /// A hugetlbfs with pages that this architecture does not have.
    #[error("mem-path '{}' has pages of {bytes} bytes, which x86-64 does not have", path.display())]
    PageSize {
        /// The directory.
        path: PathBuf,
        /// The size of its pages.
        bytes: u64,
    },
    /// No file at the path, or in the directory.
    #[error("cannot create a file in mem-path '{}'", path.display())]
    CreateFile {
        /// The directory, or the file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A file that ends before the guest's RAM does.
    #[error(
        "mem-path '{}' has {found}, but offset={offset} and size={size} need {needed}: \
         make the file larger, or name one that is not there yet",
        path.display(), offset = offset.bytes(), size = size.bytes()
    )]
    FileTooSmall {
        /// The file.
        path: PathBuf,
        /// Its size.
        found: ByteSize,
        /// Where the RAM begins.
        offset: ByteSize,
        /// The RAM.
        size: ByteSize,
        /// What both need.
        needed: ByteSize,
    },
    /// A file that must be there is not.
    #[error("mem-path '{}' with readonly=on must be a file that is there, with the guest's memory in it", path.display())]
    Template {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A place in the file inside a page.
    #[error("offset={} of mem-path '{}' is not a multiple of its page size, {page}", offset.bytes(), path.display())]
    Offset {
        /// The file.
        path: PathBuf,
        /// The offset.
        offset: ByteSize,
        /// The pages of the file.
        page: PageSize,
    },
    /// A file that the guest does not write to.
    #[error(
        "discard-data=on needs share=on: with share=off (the default for files) nothing of the guest is in the file"
    )]
    DiscardPrivate,
    /// Private memory over memory.
    #[error(
        "mem-path '{}' is on tmpfs, where share=off (the default for files) costs every page twice: use share=on, \
         readonly=on,rom=off for a private copy of it, or memory-backend-ram for private memory",
        path.display()
    )]
    PrivateTmpfs {
        /// The file.
        path: PathBuf,
    },
}
