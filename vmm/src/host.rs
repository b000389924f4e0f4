//! What the process asks of its host beside KVM and memory: signals, the terminal, network
//! interfaces, and locks of files.

pub mod bus_error;
pub mod guest_copy;
pub mod image_file;
pub mod image_lock;
pub mod signals;
pub mod tap;
pub mod terminal;
#[cfg(test)]
pub(crate) mod testing;
