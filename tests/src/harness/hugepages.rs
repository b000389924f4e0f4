//! The host's pools of huge pages.

use std::fs;
use std::path::PathBuf;

use super::knob::{Kept, Knob};
use super::{Error, Result};

/// A size of huge pages, and a node unless all are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    /// The page size in KiB.
    pub kibibytes: u64,
    /// The node; all together if none.
    pub node: Option<u32>,
}

/// What is in a pool, in pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pages {
    /// In the pool.
    pub total: u64,
    /// Of these not in use.
    pub free: u64,
    /// Of the free ones promised to somebody; the kernel tells it only for all nodes together.
    pub reserved: Option<u64>,
}

/// The pool of 2 MiB pages of the whole host.
pub const ALL_2M: Pool = Pool {
    kibibytes: 2048,
    node: None,
};

impl Pool {
    /// The pool of 2 MiB pages of a node.
    pub const fn node_2m(node: u32) -> Pool {
        Pool {
            kibibytes: 2048,
            node: Some(node),
        }
    }

    /// Reads it.
    pub fn pages(self) -> Result<Pages> {
        let reserved = match self.node {
            None => Some(self.read("resv_hugepages")?),
            Some(_) => None,
        };
        Ok(Pages {
            total: self.read("nr_hugepages")?,
            free: self.read("free_hugepages")?,
            reserved,
        })
    }

    /// Gives it a number of pages until the result is dropped.
    pub fn set(self, pages: u64) -> Result<Knob> {
        let knob = Knob::set(&self.file("nr_hugepages"), &pages.to_string())?;
        self.expect(pages).map(|()| knob)
    }

    /// The same, also when this process is killed.
    pub fn keep(self, pages: u64) -> Result<Kept> {
        let kept = Kept::set(&self.file("nr_hugepages"), &pages.to_string())?;
        self.expect(pages).map(|()| kept)
    }

    fn expect(self, pages: u64) -> Result<()> {
        let found = self.pages()?.total;
        if found == pages {
            Ok(())
        } else {
            let what = format!("{pages} pages after writing that number, but {found}");
            Err(Error::Format {
                path: self.file("nr_hugepages"),
                what,
            })
        }
    }

    /// A file of it in `/sys`.
    pub fn file(self, name: &str) -> PathBuf {
        let size = format!("hugepages/hugepages-{}kB", self.kibibytes);
        let base = match self.node {
            None => "/sys/kernel/mm".to_owned(),
            Some(node) => format!("/sys/devices/system/node/node{node}"),
        };
        PathBuf::from(base).join(size).join(name)
    }

    fn read(self, name: &str) -> Result<u64> {
        let path = self.file(name);
        let text = fs::read_to_string(&path).map_err(Error::file("read", &path))?;
        text.trim().parse().map_err(|_| Error::Format {
            path,
            what: "number".into(),
        })
    }
}
