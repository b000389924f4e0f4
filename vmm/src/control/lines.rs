//! Lines out of a stream of bytes, for the monitor.

use std::mem;

/// Longest line; what is longer is cut.
const MAX_LENGTH: usize = 4096;

/// Keeps the beginning of a line whose end has not come yet.
#[derive(Debug, Default)]
pub(super) struct Lines {
    line: Vec<u8>,
}

impl Lines {
    /// The next line in `input`, without its end, from which it takes the bytes that it used. None when `input` is used
    /// up.
    pub(super) fn next(&mut self, input: &mut &[u8]) -> Option<String> {
        while let Some((&byte, rest)) = input.split_first() {
            *input = rest;
            match byte {
                b'\n' => return Some(String::from_utf8_lossy(&mem::take(&mut self.line)).into_owned()),
                // The end of a line as terminals send it is CR LF; the LF ends it.
                b'\r' => {}
                _ if self.line.len() < MAX_LENGTH => self.line.push(byte),
                _ => {}
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_lines_however_they_are_cut() {
        let mut lines = Lines::default();
        let mut input = &b"info bal"[..];
        assert_eq!(lines.next(&mut input), None);
        let mut input = &b"loon\r\nstop\n\nc\xff"[..];
        assert_eq!(lines.next(&mut input).as_deref(), Some("info balloon"));
        assert_eq!(lines.next(&mut input).as_deref(), Some("stop"));
        assert_eq!(lines.next(&mut input).as_deref(), Some(""));
        assert_eq!(lines.next(&mut input), None);
        assert_eq!(lines.next(&mut &b"\n"[..]).as_deref(), Some("c\u{fffd}"));
    }

    #[test]
    fn a_long_line_is_cut() {
        let mut lines = Lines::default();
        let mut input = &[b'x'; 3 * MAX_LENGTH][..];
        assert_eq!(lines.next(&mut input), None);
        assert_eq!(
            lines.next(&mut &b"\n"[..]).map(|line| line.len()),
            Some(MAX_LENGTH)
        );
        assert_eq!(lines.next(&mut &b"q\n"[..]).as_deref(), Some("q"));
    }
}
