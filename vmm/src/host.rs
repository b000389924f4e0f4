//! What the process asks of its host beside KVM and memory: signals and the terminal.

pub mod bus_error;
pub mod guest_copy;
pub mod signals;
pub mod terminal;
#[cfg(test)]
pub(crate) mod testing;
