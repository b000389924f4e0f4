//! Writing cpio archives in the "newc" form, the only one that the kernel unpacks (its documentation:
//! `driver-api/early-userspace/buffer-format.rst`).

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::{Error, Result};

const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_000;

/// An archive that is being written. Paths are those of the file system that it becomes, with the leading slash.
#[derive(Debug)]
pub struct Archive {
    path: PathBuf,
    file: BufWriter<File>,
    inode: u32,
    directories: HashSet<PathBuf>,
}

impl Archive {
    /// Starts an archive in a new file.
    pub fn create(path: &Path) -> Result<Archive> {
        let file = File::create(path).map_err(Error::file("create", path))?;
        Ok(Archive {
            path: path.to_owned(),
            file: BufWriter::new(file),
            inode: 1,
            directories: HashSet::new(),
        })
    }

    /// Adds a directory and those that it lies in.
    pub fn directory(&mut self, to: impl AsRef<Path>) -> Result<()> {
        let to = to.as_ref();
        self.parents(to)?;
        if to.parent().is_some() && self.directories.insert(to.to_owned()) {
            self.entry(to, DIRECTORY | 0o755, &[])?;
        }
        Ok(())
    }

    /// Adds a copy of a file, executable where it is.
    pub fn copy(&mut self, from: &Path, to: impl AsRef<Path>) -> Result<()> {
        let mode = fs::metadata(from)
            .map_err(Error::file("find", from))?
            .permissions()
            .mode();
        let bytes = fs::read(from).map_err(Error::file("read", from))?;
        self.file(to, mode & 0o777, &bytes)
    }

    /// Adds a file.
    pub fn file(&mut self, to: impl AsRef<Path>, mode: u32, bytes: &[u8]) -> Result<()> {
        self.parents(to.as_ref())?;
        self.entry(to.as_ref(), REGULAR | mode, bytes)
    }

    /// Adds a symbolic link.
    pub fn symlink(&mut self, target: &str, to: impl AsRef<Path>) -> Result<()> {
        self.parents(to.as_ref())?;
        self.entry(to.as_ref(), SYMLINK | 0o777, target.as_bytes())
    }

    /// Writes the end.
    pub fn finish(mut self) -> Result<()> {
        self.entry(Path::new("/TRAILER!!!"), 0, &[])?;
        self.file.flush().map_err(Error::file("write", &self.path))
    }

    fn parents(&mut self, to: &Path) -> Result<()> {
        to.parent().map_or(Ok(()), |parent| self.directory(parent))
    }

    fn entry(&mut self, to: &Path, mode: u32, data: &[u8]) -> Result<()> {
        let name = to.strip_prefix("/").unwrap_or(to).to_string_lossy().into_owned();
        self.inode += 1;
        write_entry(&mut self.file, self.inode, &name, mode, data).map_err(Error::file("write", &self.path))
    }
}

/// One entry: a header of hexadecimal fields, the name and the data, each padded to 4 bytes.
fn write_entry(out: &mut impl Write, inode: u32, name: &str, mode: u32, data: &[u8]) -> io::Result<()> {
    let too_large = |_| {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{name} is too large for cpio"),
        )
    };
    let size = u32::try_from(data.len()).map_err(too_large)?;
    let name_size = u32::try_from(name.len() + 1).map_err(too_large)?;
    let links = 1;
    // inode, mode, uid, gid, links, mtime, size, device (2), special device (2), name size, checksum (unused)
    let fields = [inode, mode, 0, 0, links, 0, size, 0, 0, 0, 0, name_size, 0];
    write!(out, "070701")?;
    for field in fields {
        write!(out, "{field:08X}")?;
    }
    let header = 6 + 8 * fields.len();
    write!(out, "{name}\0")?;
    pad(out, header + name.len() + 1)?;
    out.write_all(data)?;
    pad(out, data.len())
}

fn pad(out: &mut impl Write, written: usize) -> io::Result<()> {
    let zeros = [0; 4];
    out.write_all(&zeros[..(4 - written % 4) % 4])
}

#[cfg(test)]
mod tests;
