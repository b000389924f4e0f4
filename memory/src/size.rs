//! Sizes: bytes as users write them, and the page sizes of x86-64. Pure.

use std::fmt;

use thiserror::Error;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Suffixes that [`ByteSize::parse`] takes, and the power of two that each stands for.
const SUFFIXES: [(char, u32); 7] = [
    ('B', 0),
    ('K', 10),
    ('M', 20),
    ('G', 30),
    ('T', 40),
    ('P', 50),
    ('E', 60),
];

/// A number of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(u64);

/// What a number without a suffix counts: `-m 512` means MiB, `size=512` means bytes, as in QEMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SizeUnit {
    /// Bytes.
    Byte,
    /// Units of 1 MiB (2^20 bytes).
    Mebi,
}

/// Why a text is no size.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SizeError {
    /// Not a number with an optional suffix.
    #[error(
        "'{text}' is not a size: write a number, decimal or 0x…, with one of the suffixes \
         B, K, M, G, T, P, E (powers of 1024), for example 512M or 1.5G"
    )]
    Malformed {
        /// What was written.
        text: String,
    },
    /// More than 2^64 - 1 bytes.
    #[error("size '{text}' is larger than 2^64 - 1 bytes")]
    TooLarge {
        /// What was written.
        text: String,
    },
}

impl ByteSize {
    /// No bytes.
    pub const ZERO: ByteSize = ByteSize(0);

    /// A size of so many bytes.
    #[must_use]
    pub const fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// A size of so many MiB (2^20 bytes), at most 2^64 - 1 bytes.
    #[must_use]
    pub const fn mib(count: u64) -> Self {
        Self(count.saturating_mul(MIB))
    }

    /// A size of so many GiB (2^30 bytes), at most 2^64 - 1 bytes.
    #[must_use]
    pub const fn gib(count: u64) -> Self {
        Self(count.saturating_mul(GIB))
    }

    /// The number of bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// The sum, or `None` above 2^64 - 1 bytes.
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// The difference, or `None` below zero.
    #[must_use]
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }

    /// The difference, zero at least.
    #[must_use]
    pub fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// Whether this is a whole number of pages (0 is).
    #[must_use]
    pub fn is_multiple_of(self, page: PageSize) -> bool {
        self.0.is_multiple_of(page.bytes())
    }

    /// How many pages hold this size; the last may be used in part.
    #[must_use]
    pub fn pages(self, page: PageSize) -> u64 {
        self.0.div_ceil(page.bytes())
    }

    /// Reads a size as users write it: `512`, `512M`, `1.5g`, `0x20000000`.
    ///
    /// Suffixes are powers of 1024 in either case; `bare` says what a number without one counts. A fraction is rounded down
    /// to whole bytes, as QEMU does.
    ///
    /// # Errors
    /// [`SizeError`] says what is accepted, or that the number is too large.
    pub fn parse(text: &str, bare: SizeUnit) -> Result<Self, SizeError> {
        let malformed = || SizeError::Malformed {
            text: text.to_owned(),
        };
        let too_large = || SizeError::TooLarge {
            text: text.to_owned(),
        };
        let bare_shift = match bare {
            SizeUnit::Byte => 0,
            SizeUnit::Mebi => 20,
        };
        if let Some(digits) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
            if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return Err(malformed());
            }
            let number = u64::from_str_radix(digits, 16).map_err(|_| too_large())?;
            return scale(number, bare_shift).ok_or_else(too_large);
        }
        let last = text
            .chars()
            .next_back()
            .ok_or_else(malformed)?
            .to_ascii_uppercase();
        let (number, shift) = match SUFFIXES.iter().find(|(letter, _)| *letter == last) {
            Some((_, shift)) => (&text[..text.len() - 1], *shift),
            None => (text, bare_shift),
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let fraction_without_digits = number.ends_with('.');
        if whole.is_empty() || !digits(whole) || !digits(fraction) || fraction_without_digits {
            return Err(malformed());
        }
        if !fraction.is_empty() && shift == 0 {
            return Err(malformed());
        }
        let whole = whole.parse::<u64>().map_err(|_| too_large())?;
        let whole = scale(whole, shift).ok_or_else(too_large)?;
        whole
            .checked_add(Self(part_of_unit(fraction, shift)))
            .ok_or_else(too_large)
    }
}

/// `number` × 2^`shift`, if it fits.
fn scale(number: u64, shift: u32) -> Option<ByteSize> {
    number.checked_mul(1 << shift).map(ByteSize)
}

/// The bytes that the digits after the decimal point stand for, of a unit of 2^`shift` bytes, rounded down.
///
/// Digits after the eighteenth are below one byte of any unit that fits and are dropped.
fn part_of_unit(fraction: &str, shift: u32) -> u64 {
    let mut numerator: u128 = 0;
    let mut denominator: u128 = 1;
    for digit in fraction.bytes().take(18) {
        numerator = numerator * 10 + u128::from(digit - b'0');
        denominator *= 10;
    }
    u64::try_from((numerator << shift) / denominator).unwrap_or(0)
}

/// The size in its largest exact binary unit: `512 MiB`, `1536 MiB`, `4097 bytes`.
impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.0;
        let units = [(1 << 40, "TiB"), (GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")];
        match units
            .iter()
            .find(|(unit, _)| bytes != 0 && bytes.is_multiple_of(*unit))
        {
            Some((unit, name)) => write!(f, "{} {name}", bytes / unit),
            None => write!(f, "{bytes} bytes"),
        }
    }
}

/// A page size of the x86-64 architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageSize(u32);

impl PageSize {
    /// 4 KiB: the page of virtio-balloon, and of everything that is not hugetlb.
    pub const BASE: PageSize = PageSize(12);
    /// 2 MiB.
    pub const HUGE_2M: PageSize = PageSize(21);
    /// 1 GiB.
    pub const HUGE_1G: PageSize = PageSize(30);

    /// The page size of so many bytes, where x86-64 has it.
    #[must_use]
    pub fn from_bytes(bytes: u64) -> Option<Self> {
        [Self::BASE, Self::HUGE_2M, Self::HUGE_1G]
            .into_iter()
            .find(|page| page.bytes() == bytes)
    }

    /// Bytes in a page.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        1 << self.0
    }

    /// The page as a size.
    #[must_use]
    pub const fn size(self) -> ByteSize {
        ByteSize(self.bytes())
    }

    /// The power of two of the page: 12, 21 or 30.
    #[must_use]
    pub const fn shift(self) -> u32 {
        self.0
    }

    /// Whether such pages come from a hugetlb pool.
    #[must_use]
    pub fn is_huge(self) -> bool {
        self != Self::BASE
    }

    /// The start of the page that holds `address`.
    #[must_use]
    pub const fn floor(self, address: u64) -> u64 {
        address & !(self.bytes() - 1)
    }

    /// The next page start at or after `address`, or `None` above 2^64.
    #[must_use]
    pub fn ceil(self, address: u64) -> Option<u64> {
        address.checked_next_multiple_of(self.bytes())
    }
}

impl fmt::Display for PageSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.size().fmt(f)
    }
}

#[cfg(test)]
mod tests;
