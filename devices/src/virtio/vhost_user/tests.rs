use std::fs::File;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Instant;

use memory::backend::BackendKind;
use memory::layout::PCI32_WINDOW_START;
use memory::range::GuestRange;
use proptest::prelude::*;

use super::*;
use vm_memory::{Bytes, GuestAddress};

use crate::interrupt::MsiVector;
use crate::testing::{
    Descriptor, Driver, DriverQueue, FakeDoorbells, FakeVector, anonymous_ram, open_ram, wait_for,
};
use crate::virtio::pci::VirtioPci;
use crate::virtio::{F_EVENT_IDX, F_VERSION_1};

mod hostile;
mod network;
mod record;
mod storage;

/// A socket's file.
#[derive(Debug)]
struct Socket(PathBuf);

impl Dial for Socket {
    fn dial(&self) -> io::Result<UnixStream> {
        UnixStream::connect(&self.0)
    }
}

/// What becomes available within some time.
fn patiently<T>(what: &str, mut find: impl FnMut() -> Option<T>) -> T {
    let mut found = None;
    wait_for(what, || {
        found = find();
        found.is_some()
    });
    found.unwrap()
}

fn spec(reconnect: Option<Duration>) -> VhostUserSpec {
    VhostUserSpec {
        id: "vhost0".into(),
        kind: Kind::Blk,
        queues: 2,
        reconnect,
    }
}

/// `device` on a bus, with its interrupts: of the configuration, and of two queues.
fn on_bus(device: VhostUser, ram: &Ram) -> (Arc<VirtioPci>, Vec<Arc<FakeVector>>) {
    let vectors: Vec<Arc<FakeVector>> = (0..3).map(|_| Arc::default()).collect();
    let given = vectors.iter().map(|vector| vector.clone() as Arc<dyn MsiVector>);
    let device = VirtioPci::new(
        Box::new(device),
        ram.clone(),
        given.collect(),
        Arc::new(FakeDoorbells::default()),
        Arc::default(),
        PCI32_WINDOW_START,
    );
    (device.unwrap(), vectors)
}
