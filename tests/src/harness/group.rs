//! A control group of the host with limits, for a program that starts in it.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Error, Result};

const ROOT: &str = "/sys/fs/cgroup";

/// A control group; gone when dropped, which needs that nothing is in it any more.
#[derive(Debug)]
pub struct Group(PathBuf);

impl Group {
    /// A new one whose limits are those of `controller`, such as `hugetlb`.
    pub fn new(controller: &str) -> Result<Group> {
        let root = Path::new(ROOT);
        put(&root.join("cgroup.subtree_control"), &format!("+{controller}"))?;
        let path = root.join(format!("ballast-{controller}-{}", std::process::id()));
        fs::create_dir(&path).map_err(Error::file("create", &path))?;
        Ok(Group(path))
    }

    /// One of its files.
    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes one of its files.
    pub fn set(&self, name: &str, value: &str) -> Result<()> {
        put(&self.file(name), value)
    }

    /// Sets a limit such as `hugetlb.2MB.max`; `None`: no limit.
    pub fn limit(&self, name: &str, bytes: Option<u64>) -> Result<()> {
        let text = bytes.map_or("max".to_owned(), |bytes| bytes.to_string());
        self.set(name, &text)
    }

    /// What a shell has to do first so that it, and what it becomes, is in the group: for [`super::vm::Launch::under`].
    pub fn enter(&self) -> [String; 3] {
        let line = format!("echo $$ > {}/cgroup.procs; exec \"$0\" \"$@\"", self.0.display());
        ["/bin/sh".to_owned(), "-c".to_owned(), line]
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir(&self.0) {
            eprintln!("cannot remove {}: {error}", self.0.display());
        }
    }
}

fn put(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).map_err(Error::file("write", path))
}
