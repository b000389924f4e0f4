//! The header of a qcow2 image, looked at before `imago` opens it: what cannot be served, or would cost too much memory, is refused
//! with words that say what to do. (QEMU's docs/interop/qcow2.txt.)

use std::ops::Range;

use devices::disk::SECTOR;

/// The first bytes of every image.
const MAGIC: [u8; 4] = *b"QFI\xfb";
/// Bytes of a header of version 2, and of version 3 at least.
const V2_BYTES: usize = 72;
const V3_BYTES: usize = 104;
/// As QEMU: bytes of the level 1 table, bytes of the table of reference counts, bytes of a file name.
const MOST_L1_BYTES: u64 = 32 << 20;
const MOST_COUNT_BYTES: u64 = 8 << 20;
const MOST_NAME_BYTES: u32 = 1023;
/// Logarithms of the sizes that a cluster can have.
const CLUSTER_BITS: std::ops::RangeInclusive<u32> = 9..=21;
/// Bytes of an entry of a level 1 or level 2 table.
const ENTRY: u64 = 8;
/// What extensions of the header are about.
const END: u32 = 0;
const BACKING_FORMAT: u32 = 0xe279_2aca;

/// Most bytes of a file that [`Header::read`] looks at: a cluster.
pub const MOST_BYTES: usize = 2 << 20;

/// Why an image cannot be a disk.
#[derive(Debug, thiserror::Error)]
pub enum HeaderError {
    /// It is something else.
    #[error("it is not a qcow2 image{hint}")]
    Magic {
        /// What it may be.
        hint: &'static str,
    },
    /// A version that does not exist yet.
    #[error("it has version {0} of the format; 2 and 3 are known")]
    Version(u32),
    /// Something that is not served.
    #[error("it {what}: {advice}")]
    Unsupported {
        /// What it has.
        what: String,
        /// What to do.
        advice: &'static str,
    },
    /// It says what cannot be.
    #[error("its header is damaged: {0}")]
    Damaged(String),
}

/// Features that an image needs, by their bit, and what to do about each.
#[rustfmt::skip]
const FEATURES: [(u32, &str, &str); 5] = [
    (0, "was not closed by its last user", "'qemu-img check -r all' mends it"),
    (1, "is marked as corrupt", "'qemu-img check -r all' mends what can be mended"),
    (2, "has its data in another file (data_file)", CONVERT),
    (3, "is not compressed by zlib", CONVERT),
    (4, "has clusters with parts (extended_l2)", CONVERT),
];
const CONVERT: &str = "'qemu-img convert -O qcow2' makes an image without";

/// The file under an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backing {
    /// Its name, relative to the image's directory or absolute.
    pub name: String,
    /// What it is, if the image says so.
    pub format: Option<String>,
}

/// What a header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// 2 or 3.
    pub version: u32,
    /// Bytes of the disk.
    pub size: u64,
    /// Bytes of a cluster.
    pub cluster: u64,
    /// Where the level 1 table is.
    pub pointers: Range<u64>,
    /// Where the table of reference counts is.
    pub counts: u64,
    /// How many bytes of the file one block of reference counts stands for.
    pub counted: u64,
    /// What is under it.
    pub backing: Option<Backing>,
}

impl Header {
    /// Looks at the first bytes of an image, [`MOST_BYTES`] of them or all that there are.
    ///
    /// # Errors
    /// When it cannot be a disk, or not one that is written.
    pub fn read(bytes: &[u8], read_only: bool) -> Result<Header, HeaderError> {
        let field = Fields(bytes);
        if !bytes.starts_with(&MAGIC) {
            return Err(HeaderError::Magic { hint: hint(bytes) });
        }
        let version = field.u32(4)?;
        if !matches!(version, 2 | 3) {
            return Err(HeaderError::Version(version));
        }
        features(&field, version, read_only)?;
        let cluster_bits = field.u32(20)?;
        if !CLUSTER_BITS.contains(&cluster_bits) {
            return damaged(format!("clusters of 2^{cluster_bits} bytes"));
        }
        let cluster = 1_u64 << cluster_bits;
        let size = field.u64(24)?;
        if size == 0 || !size.is_multiple_of(SECTOR) || i64::try_from(size).is_err() {
            return damaged(format!("a disk of {size} bytes"));
        }
        let count_order = if version == 2 { 4 } else { field.u32(96)? };
        if count_order > 6 {
            return damaged(format!("reference counts of 2^{count_order} bits"));
        }
        let count_bytes = u64::from(field.u32(56)?) * cluster;
        if count_bytes == 0 || count_bytes > MOST_COUNT_BYTES {
            return damaged(format!("{count_bytes} bytes of reference counts"));
        }
        Ok(Header {
            version,
            size,
            cluster,
            pointers: pointers(&field, size, cluster)?,
            counts: field.u64(48)?,
            counted: ((cluster * 8) >> count_order) * cluster,
            backing: backing(&field, version, cluster)?,
        })
    }
}

impl Header {
    /// Whether the first entry of the table of reference counts leads to a block of them: the header itself is counted there.
    ///
    /// # Errors
    /// When it does not.
    pub fn check_counts(&self, first: [u8; 8]) -> Result<(), HeaderError> {
        if u64::from_be_bytes(first) < self.cluster {
            return damaged(
                "no reference counts for its first clusters ('qemu-img check -r all' may mend it)".to_owned(),
            );
        }
        Ok(())
    }
}

/// Refuses what is not served.
fn features(field: &Fields<'_>, version: u32, read_only: bool) -> Result<(), HeaderError> {
    let refuse = |what: String, advice| Err(HeaderError::Unsupported { what, advice });
    if field.u32(32)? != 0 {
        let advice = "'qemu-img convert' with its key makes an image that is not";
        return refuse("is encrypted".to_owned(), advice);
    }
    let needed = if version == 2 { 0 } else { field.u64(72)? };
    for (bit, what, advice) in FEATURES {
        if needed & 1 << bit != 0 {
            return refuse(what.to_owned(), advice);
        }
    }
    if needed != 0 {
        return refuse(
            format!("needs features that are not known ({needed:#x})"),
            CONVERT,
        );
    }
    let snapshots = field.u32(60)?;
    if snapshots != 0 && !read_only {
        let advice = "readonly=on reads it; 'qemu-img convert -O qcow2' makes an image without";
        return refuse(format!("has snapshots in it ({snapshots})"), advice);
    }
    Ok(())
}

/// Where the level 1 table is. It has to be large enough: nobody makes it larger here.
fn pointers(field: &Fields<'_>, size: u64, cluster: u64) -> Result<Range<u64>, HeaderError> {
    let (start, len) = (field.u64(40)?, u64::from(field.u32(36)?) * ENTRY);
    let least = size.div_ceil(cluster * (cluster / ENTRY)) * ENTRY;
    if len < least || len > MOST_L1_BYTES {
        return damaged(format!("a level 1 table of {len} bytes for a disk of {size}"));
    }
    match start.checked_add(len) {
        Some(end) if start != 0 && start.is_multiple_of(cluster) => Ok(start..end),
        _ => damaged(format!("a level 1 table at {start:#x}")),
    }
}

/// The file under the image, and what it is said to be.
fn backing(field: &Fields<'_>, version: u32, cluster: u64) -> Result<Option<Backing>, HeaderError> {
    let (offset, len) = (field.u64(8)?, field.u32(16)?);
    if offset == 0 {
        return Ok(None);
    }
    let inside = offset.checked_add(len.into()).is_some_and(|end| end <= cluster);
    if len == 0 || len > MOST_NAME_BYTES || !inside {
        return damaged(format!(
            "the name of its backing file has {len} bytes at {offset:#x}"
        ));
    }
    let name = text(field.bytes(offset, len)?, "the name of its backing file")?;
    let mut at = match version {
        2 => V2_BYTES as u64,
        _ => u64::from(field.u32(100)?).max(V3_BYTES as u64),
    };
    loop {
        // Extensions end where the cluster does, or the name begins, at the latest.
        if at + 8 > offset.min(cluster) {
            return Ok(Some(Backing { name, format: None }));
        }
        let (kind, len) = (field.u32(at)?, field.u32(at + 4)?);
        match kind {
            END => return Ok(Some(Backing { name, format: None })),
            BACKING_FORMAT => {
                let format = text(field.bytes(at + 8, len)?, "the format of its backing file")?;
                let format = Some(format);
                return Ok(Some(Backing { name, format }));
            }
            _ => at += 8 + u64::from(len).next_multiple_of(8),
        }
    }
}

/// What else a file may be, by its first bytes; only for words.
fn hint(bytes: &[u8]) -> &'static str {
    match bytes {
        [] => "; it is empty: 'qemu-img create -f qcow2' makes one",
        [b'Q', b'E', b'D', 0, ..] | [b'K', b'D', b'M', b'V', ..] => {
            "; 'qemu-img convert -O qcow2' makes one of it"
        }
        _ => "; format=raw is for images without a format",
    }
}

fn damaged<T>(what: String) -> Result<T, HeaderError> {
    Err(HeaderError::Damaged(what))
}

fn text(bytes: &[u8], what: &str) -> Result<String, HeaderError> {
    let text = std::str::from_utf8(bytes)
        .ok()
        .filter(|text| !text.contains('\0'));
    text.map_or_else(
        || damaged(format!("{what} is not UTF-8")),
        |text| Ok(text.to_owned()),
    )
}

/// The first bytes of the file, all numbers big-endian.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn bytes(&self, at: u64, len: u32) -> Result<&'a [u8], HeaderError> {
        let part = usize::try_from(at).ok().and_then(|at| {
            let end = at.checked_add(usize::try_from(len).ok()?)?;
            self.0.get(at..end)
        });
        part.map_or_else(
            || damaged(format!("it ends before byte {}", at.saturating_add(len.into()))),
            Ok,
        )
    }

    fn u32(&self, at: u64) -> Result<u32, HeaderError> {
        let bytes = self.bytes(at, 4)?;
        Ok(bytes.iter().fold(0, |value, byte| value << 8 | u32::from(*byte)))
    }

    fn u64(&self, at: u64) -> Result<u64, HeaderError> {
        Ok(u64::from(self.u32(at)?) << 32 | u64::from(self.u32(at + 4)?))
    }
}

#[cfg(test)]
mod tests;
