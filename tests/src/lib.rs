//! The lab, and the harness of the tests with real guests.
//!
//! [`lab`] is the program behind `cargo lab`: it prepares kernels and initramfs images, boots the *lab host* (a QEMU
//! machine with two NUMA nodes and a complete KVM) and runs things in it. [`harness`] is what those things use once
//! they are there: a guest under Ballast, its console, its agent, QMP, and readers of the host's state. [`agent`] runs
//! in the guest.

#![forbid(unsafe_code)]

pub mod agent;
pub mod harness;
pub mod job;
pub mod lab;
