//! What the process asks of its host beside KVM and memory: signals and the terminal.

pub mod signals;
pub mod terminal;
