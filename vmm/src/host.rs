//! What the process asks of its host beside KVM and memory: signals, the terminal, network interfaces, locks of files, that
//! it keep little of the process itself, and to be left alone.

pub mod bus_error;
pub mod daemon;
pub mod footprint;
pub mod guest_copy;
pub mod image_file;
pub mod image_lock;
pub mod pid_file;
pub mod signals;
pub mod tap;
pub mod terminal;
#[cfg(test)]
pub(crate) mod testing;
