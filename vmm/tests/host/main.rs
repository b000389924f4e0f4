//! The program on the machine at hand, whatever KVM that has.

mod daemon;
mod examples;
mod kernel;
mod reset;
mod software_kvm;
