//! Files of disk images, as the crate `imago` reads and writes them.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, PoisonError};

use devices::disk::space;
use imago::Storage;
use imago::io_buffers::{IoVector, IoVectorMut};
use imago::storage::drivers::CommonStorageHelper;

/// A file with an image in it. `imago` moves the format's own tables through it, and copies of clusters; what the guest reads and
/// writes goes past it, straight between [`ImageFile::file`] and guest memory.
///
/// Writes into one range are held back until [`Storage::flush`], which `imago` calls when all other tables are written: pointers
/// there never lead to what a killed process has left unwritten.
#[derive(Debug)]
pub struct ImageFile {
    file: File,
    name: String,
    /// The range with pointers; `imago` reads it once, before it writes there.
    pointers: Range<u64>,
    held: Mutex<BTreeMap<u64, Vec<u8>>>,
    helper: CommonStorageHelper,
}

impl ImageFile {
    /// An open file that errors call `name`; writes into `pointers` are held back.
    #[must_use]
    pub fn new(file: File, name: String, pointers: Range<u64>) -> ImageFile {
        ImageFile {
            file,
            name,
            pointers,
            held: Mutex::default(),
            helper: CommonStorageHelper::default(),
        }
    }

    /// The file.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// How many writes are held back.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// How long the file is now; of a block device, its size.
    ///
    /// # Errors
    /// Those of lseek(2).
    pub fn len(&self) -> io::Result<u64> {
        (&self.file).seek(SeekFrom::End(0))
    }

    /// Whether the file has no bytes.
    ///
    /// # Errors
    /// Those of lseek(2).
    pub fn is_empty(&self) -> io::Result<bool> {
        self.len().map(|len| len == 0)
    }
}

impl fmt::Display for ImageFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// The `unsafe` of these methods is a rule for callers about alignment, of which this storage asks none.
impl Storage for ImageFile {
    fn size(&self) -> io::Result<u64> {
        self.len()
    }

    unsafe fn pure_readv(&self, vector: IoVectorMut<'_>, mut offset: u64) -> io::Result<()> {
        for mut slice in vector.into_inner() {
            let mut rest: &mut [u8] = &mut slice;
            while !rest.is_empty() {
                match self.file.read_at(rest, offset) {
                    // Beyond the end there are zeros.
                    Ok(0) => {
                        offset += rest.len() as u64;
                        rest.fill(0);
                        rest = &mut [];
                    }
                    Ok(count) => {
                        offset += count as u64;
                        rest = &mut rest[count..];
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    unsafe fn pure_writev(&self, vector: IoVector<'_>, mut offset: u64) -> io::Result<()> {
        for slice in vector.into_inner() {
            if self.pointers.contains(&offset) {
                let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
                held.insert(offset, slice.to_vec());
            } else {
                self.file.write_all_at(&slice, offset)?;
            }
            offset += slice.len() as u64;
        }
        Ok(())
    }

    unsafe fn pure_write_zeroes(&self, offset: u64, length: u64) -> io::Result<()> {
        space::zero(&self.file, offset, length, true)?;
        match offset.checked_add(length) {
            Some(end) if end > self.len()? => self.file.set_len(end),
            Some(_) => Ok(()),
            None => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    fn flush(&self) -> io::Result<()> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(first) = held.first_entry() {
            self.file.write_all_at(first.get(), *first.key())?;
            first.remove();
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    unsafe fn invalidate_cache(&self) -> io::Result<()> {
        Ok(())
    }

    fn get_storage_helper(&self) -> &CommonStorageHelper {
        &self.helper
    }
}
