//! The program on the machine at hand, whatever KVM that has.

mod daemon;
mod examples;
mod kernel;
mod prealloc;
mod reset;
mod running;
mod software_kvm;
