//! Ballast: a KVM virtual machine monitor for people who care where guest memory is.
//!
//! Three flows explain the crate. *Start*: [`cli`] → [`config`] → [`machine`]: backends are opened and filled, KVM gets
//! its slots, devices go on their buses, the kernel is loaded, the vCPU threads wait at their [`gate`]. *Command*:
//! [`control`] turns bytes from a socket into calls on [`machine::Machine`] and news of the machine into events.
//! *Release* happens in the devices' own threads; this crate only hears of it as [`news`].
//!
//! Only this crate knows KVM, JSON, threads and the command line.

pub mod budget;
pub mod build;
pub mod chardev;
pub mod cli;
pub mod config;
pub mod control;
pub mod cpu_features;
pub mod descriptors;
pub mod doctor;
pub mod event_loop;
pub mod gate;
pub mod host;
pub mod image;
pub mod keys;
pub mod kvm;
pub mod log;
pub mod machine;
pub mod misplaced;
pub mod news;
pub mod objects;
pub mod pinning;
pub mod platform;
pub mod progress;
pub mod run_state;
pub mod sampler;
pub mod stage;
pub mod starvation;
pub mod told;
pub mod topology;
pub mod vcpu_thread;
pub mod vsock;
