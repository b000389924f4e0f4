//! Cuts a stream of bytes into JSON values, without waiting for line ends, and finds its way again after nonsense.
//!
//! As QEMU's lexer does, it also takes strings in single quotes; they come out in double quotes.

use std::mem;

/// Longest value, in bytes.
pub const MAX_LENGTH: usize = 64 * 1024;
/// Deepest nesting of objects and arrays.
pub const MAX_DEPTH: usize = 64;

/// Why there is no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A byte that cannot be where it is.
    #[error("stray '{}'", char::from(*.0).escape_default())]
    Stray(u8),
    /// A closing bracket, colon or comma outside of any object.
    #[error("expecting value")]
    ExpectingValue,
    /// The value is longer than [`MAX_LENGTH`].
    #[error("the request is longer than {MAX_LENGTH} bytes")]
    TooLong,
    /// The value is nested deeper than [`MAX_DEPTH`].
    #[error("the request is nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Between values, or between the tokens of one.
    #[default]
    Plain,
    /// In a word such as `true` that is a value by itself.
    Word,
    /// In a string that ends with this quote.
    Text { quote: u8 },
    /// After a backslash in such a string.
    Escape { quote: u8 },
}

/// The cutter; keeps the beginning of a value whose end has not come yet.
#[derive(Debug, Default)]
pub struct Framer {
    frame: Vec<u8>,
    depth: usize,
    state: State,
}

impl Framer {
    /// The next value in `input`, from which it takes the bytes that it used. None when `input` is used up.
    pub fn next(&mut self, input: &mut &[u8]) -> Option<Result<Vec<u8>, FrameError>> {
        while let Some((&byte, rest)) = input.split_first() {
            if self.state == State::Word && ends_word(byte) {
                // The byte belongs to what follows.
                return Some(Ok(self.take()));
            }
            *input = rest;
            let step = self.step(byte);
            if self.frame.len() > MAX_LENGTH {
                self.take();
                return Some(Err(FrameError::TooLong));
            }
            match step {
                Ok(false) => {}
                Ok(true) => return Some(Ok(self.take())),
                Err(error) => {
                    self.take();
                    return Some(Err(error));
                }
            }
        }
        None
    }

    /// Ends the value, and whatever state it was in.
    fn take(&mut self) -> Vec<u8> {
        self.depth = 0;
        self.state = State::Plain;
        mem::take(&mut self.frame)
    }

    /// Takes one byte; true when it completes a value.
    fn step(&mut self, byte: u8) -> Result<bool, FrameError> {
        match self.state {
            State::Plain => self.plain(byte),
            State::Word => {
                self.frame.push(byte);
                Ok(false)
            }
            // A line end inside a string: its closing quote was forgotten. The next line may be good again.
            State::Text { .. } | State::Escape { .. } if byte < b' ' => Err(FrameError::Stray(byte)),
            State::Text { quote } => Ok(self.text(quote, byte)),
            State::Escape { quote } => {
                // JSON has no escape for a single quote, and needs none.
                if byte != b'\'' {
                    self.frame.push(b'\\');
                }
                self.frame.push(byte);
                self.state = State::Text { quote };
                Ok(false)
            }
        }
    }

    fn plain(&mut self, byte: u8) -> Result<bool, FrameError> {
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' => {
                if self.depth > 0 {
                    self.frame.push(byte);
                }
            }
            b'{' | b'[' => {
                if self.depth == MAX_DEPTH {
                    return Err(FrameError::TooDeep);
                }
                self.depth += 1;
                self.frame.push(byte);
            }
            b'}' | b']' | b',' | b':' => {
                if self.depth == 0 {
                    return Err(FrameError::ExpectingValue);
                }
                self.frame.push(byte);
                if matches!(byte, b'}' | b']') {
                    self.depth -= 1;
                }
                return Ok(self.depth == 0);
            }
            b'"' | b'\'' => {
                self.frame.push(b'"');
                self.state = State::Text { quote: byte };
            }
            b'!'..=b'~' => {
                self.frame.push(byte);
                if self.depth == 0 {
                    self.state = State::Word;
                }
            }
            _ => return Err(FrameError::Stray(byte)),
        }
        Ok(false)
    }

    fn text(&mut self, quote: u8, byte: u8) -> bool {
        match byte {
            b'\\' => self.state = State::Escape { quote },
            _ if byte == quote => {
                self.frame.push(b'"');
                self.state = State::Plain;
                return self.depth == 0;
            }
            b'"' => self.frame.extend_from_slice(b"\\\""),
            _ => self.frame.push(byte),
        }
        false
    }
}

fn ends_word(byte: u8) -> bool {
    !byte.is_ascii_graphic() || b"{}[],:\"'".contains(&byte)
}
