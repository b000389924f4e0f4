//! The program behind `cargo lab`: everything up to the moment when the lab host runs.

pub mod archive;
pub mod bench;
pub mod build;
pub mod cache;
pub mod choice;
pub mod cli;
pub mod debian;
pub mod demo;
pub mod distribution;
pub mod elf;
pub mod error;
pub mod guest;
pub mod host;
pub mod image;
pub mod modules;
pub mod paths;
pub mod probe;
pub mod process;
pub mod python;
pub mod qemu;
pub mod run;
pub mod setup;
pub mod stock;
pub mod terminal;
pub mod test;
pub mod tiny;
pub mod workshop;

pub use error::{Error, Result};
