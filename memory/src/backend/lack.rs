//! Why a backend cannot supply a page now.

use std::fmt;

use crate::host::cgroup::Limit;
use crate::host::hugepages::Pool;
use crate::size::ByteSize;

/// Why a backend cannot supply a page now. As text: what is short, with its numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lack {
    /// The file behind it is too short.
    Cut(Cut),
    /// A limit of a control group is reached, whatever the pool has.
    Limit(Limit),
    /// The pool of huge pages is empty.
    Pool(Pool),
    /// The file system is full: what it has left.
    Full(ByteSize),
}

impl Lack {
    /// One word for programs.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Cut(_) => "file-cut",
            Self::Limit(_) => "cgroup-limit",
            Self::Pool(_) => "pool-empty",
            Self::Full(_) => "file-system-full",
        }
    }

    /// Whether bytes of the guest are gone for good.
    #[must_use]
    pub fn is_loss(&self) -> bool {
        matches!(self, Self::Cut(cut) if cut.lost)
    }
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cut(cut) => cut.fmt(f),
            Self::Limit(limit) => limit.fmt(f),
            Self::Pool(pool) => pool.fmt(f),
            Self::Full(left) => write!(f, "{left} left in its file system"),
        }
    }
}

/// Somebody cut the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// What the file has now.
    pub size: ByteSize,
    /// What it must have.
    pub needed: ByteSize,
    /// Whether what was cut off had data in it when it was last looked at.
    pub lost: bool,
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { size, needed, lost } = self;
        write!(f, "its file has {size} of the {needed} needed")?;
        if *lost {
            f.write_str(", and data of the guest was cut off")?;
        }
        Ok(())
    }
}
