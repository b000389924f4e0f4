//! What tests in the lab host work with: a guest under Ballast, its console and agent, QMP, and the host's own view of
//! the memory behind it.
//!
//! Everything that waits has a deadline, and an error says what was seen until then.

pub mod agent;
pub mod backing;
pub mod balloon;
pub mod complaints;
pub mod console;
pub mod error;
pub mod group;
pub mod hugepages;
pub mod knob;
pub mod kvm;
pub mod maps;
pub mod qmp;
pub mod shell;
pub mod swap;
pub mod terminal;
pub mod vm;

pub use error::{Error, Result};
pub use vm::Vm;

pub use crate::lab::workshop::names;
