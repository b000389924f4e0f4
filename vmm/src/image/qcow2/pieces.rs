//! Guest memory, taken in parts.

use std::io;

use devices::disk::Piece;

static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// What is left of the pieces of a request.
pub(super) struct Pieces<'a, 'b> {
    rest: &'b [Piece<'a>],
    /// Bytes of the first piece that are taken.
    taken: usize,
    left: u64,
}

impl<'a, 'b> Pieces<'a, 'b> {
    pub(super) fn new(pieces: &'b [Piece<'a>]) -> Pieces<'a, 'b> {
        Pieces {
            rest: pieces,
            taken: 0,
            left: pieces.iter().map(|piece| piece.len() as u64).sum(),
        }
    }

    /// Bytes that are left.
    pub(super) fn left(&self) -> u64 {
        self.left
    }

    /// The next `len` bytes, or all that are left.
    pub(super) fn take(&mut self, len: u64) -> io::Result<Vec<Piece<'a>>> {
        let len = len.min(self.left);
        self.left -= len;
        let mut wanted = usize::try_from(len).map_err(io::Error::other)?;
        let mut part = Vec::new();
        while let Some(first) = self.rest.first().filter(|_| wanted > 0) {
            let here = wanted.min(first.len() - self.taken);
            if here > 0 {
                part.push(first.subslice(self.taken, here).map_err(io::Error::other)?);
            }
            (wanted, self.taken) = (wanted - here, self.taken + here);
            if self.taken == first.len() {
                (self.rest, self.taken) = (&self.rest[1..], 0);
            }
        }
        Ok(part)
    }
}

/// Fills guest memory with zeros.
pub(super) fn zero(pieces: &[Piece<'_>]) {
    for piece in pieces {
        for at in (0..piece.len()).step_by(ZEROS.len()) {
            let part = ZEROS.len().min(piece.len() - at);
            if let Ok(place) = piece.subslice(at, part) {
                place.copy_from(&ZEROS[..part]);
            }
        }
    }
}

/// Fills guest memory with `bytes`, as many as there are.
pub(super) fn copy(bytes: &[u8], pieces: &[Piece<'_>]) {
    let mut rest = bytes;
    for piece in pieces {
        let (here, after) = rest.split_at(rest.len().min(piece.len()));
        piece.copy_from(here);
        rest = after;
    }
}
