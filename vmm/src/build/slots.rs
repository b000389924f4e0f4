//! Virtio devices onto the PCI bus.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use devices::fault::Faults;
use devices::pci::PciRoot;
use devices::pvpanic::PvPanic;
use devices::typed::InputLine;
use devices::virtio::VirtioDevice;
use devices::virtio::blk::Blk;
use devices::virtio::console::Console;
use devices::virtio::net::Net;
use devices::virtio::pci::VirtioPci;
use devices::virtio::rng::{EntropySource, KernelEntropy, Rng};
use devices::virtio::vhost_user::{Introduced, VhostUserError};
use devices::virtio::vsock::Vsock;
use memory::backend;
use memory::ram::Ram;

use super::{Error, device, outlets};
use crate::chardev;
use crate::cli::rng::Entropy;
use crate::config::{Chardev, Config, DeviceSpec, SerialSpec};
use crate::control::block_report::Disk;
use crate::control::daemon_report::Daemon;
use crate::control::socket::{SocketError, SocketFile};
use crate::host::tap::{Tap, TapError};
use crate::image::{self, Opened};
use crate::kvm::vm::Vm;
use crate::platform::{Place, Platform};
use crate::vsock::PortSockets;

/// How long a daemon that is to be looked for again is waited for at the start.
const DAEMON: Duration = Duration::from_secs(10);

/// Why a device has nothing to work with.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A network cannot be had.
    #[error("netdev '{id}'")]
    Network {
        /// The network.
        id: String,
        /// Why.
        source: TapError,
    },
    /// A daemon does not serve its device.
    #[error("chardev '{id}' ({})", path.display())]
    Daemon {
        /// The socket.
        id: String,
        /// Its file.
        path: PathBuf,
        /// Why.
        source: VhostUserError,
    },
    /// Nobody can be listened to for a guest's sockets.
    #[error(transparent)]
    Sockets(#[from] SocketError),
    /// The file of an `rng-random` cannot be opened.
    #[error("cannot open {} for random bytes", path.display())]
    OpenEntropy {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The file of an `rng-random` would come to its end, and be the same for every guest.
    #[error("{} has no random bytes: rng-random takes a character device or a FIFO", path.display())]
    NotRandom {
        /// The file.
        path: PathBuf,
    },
}

impl OpenError {
    fn daemon(chardev: &Chardev, source: VhostUserError) -> OpenError {
        OpenError::Daemon {
            id: chardev.id.clone(),
            path: chardev.path.clone(),
            source,
        }
    }
}

/// The bus, and what devices on it share.
pub(super) struct Slots<'a> {
    pub(super) ram: &'a Ram,
    pub(super) vm: &'a Vm,
    pub(super) pci: &'a PciRoot,
    pub(super) faults: &'a Arc<Faults>,
    /// One for all devices: it knows what is taken.
    pub(super) places: Platform,
    /// The devices that daemons serve, as far as they have come.
    pub(super) daemons: Vec<Daemon>,
}

impl Slots<'_> {
    /// Puts a device into the next slot.
    pub(super) fn add(&mut self, device: Ready) -> Result<(), Error> {
        match device {
            Ready::Virtio(device) => self.add_virtio(device),
            Ready::VhostUser(introduced, chardev) => {
                let made = introduced.with(self.ram.clone());
                let (handle, device) = made.map_err(|source| OpenError::daemon(&chardev, source))?;
                self.daemons.push(Daemon {
                    device: device.description().id,
                    chardev,
                    handle,
                });
                self.add_virtio(Box::new(device))
            }
            Ready::PvPanic => {
                let place = self.place(0)?;
                Ok(self.pci.add(place.slot, Arc::new(PvPanic::new(place.bar)))?)
            }
        }
    }

    fn place(&mut self, vectors: usize) -> Result<Place, Error> {
        let place = self.places.place(vectors, self.vm.routes());
        place.map_err(super::device("PCI device"))
    }

    /// Puts `device` behind the registers of virtio, and into the next slot.
    pub(super) fn add_virtio(&mut self, device: Box<dyn VirtioDevice>) -> Result<(), Error> {
        let place = self.place(device.description().vectors())?;
        let function = VirtioPci::new(
            device,
            self.ram.clone(),
            place.vectors,
            self.vm.doorbells(),
            self.faults.clone(),
            place.bar,
        )?;
        self.pci.add(place.slot, function)?;
        Ok(())
    }
}

/// A device that has what it works with, and no place yet.
pub(super) enum Ready {
    /// One with rings and a worker.
    Virtio(Box<dyn VirtioDevice>),
    /// One that a daemon serves, which gets the guest's memory yet.
    VhostUser(Introduced, Chardev),
    /// One that is registers only.
    PvPanic,
}

/// Refuses memory that a daemon could not map, before any is taken.
pub(super) fn check_shared(config: &Config) -> Result<(), OpenError> {
    let private = config
        .backends
        .iter()
        .find(|backend| !backend::is_shareable(backend));
    let daemon = config.devices.iter().find_map(|device| {
        let DeviceSpec::VhostUser { chardev, .. } = device else {
            return None;
        };
        Some(chardev)
    });
    match (private, daemon) {
        (Some(private), Some(chardev)) => {
            let backend = private.id.clone();
            Err(OpenError::daemon(chardev, VhostUserError::NotShared { backend }))
        }
        _ => Ok(()),
    }
}

/// What others than its bus have to do with a device.
#[derive(Default)]
pub(super) struct Made {
    pub(super) disks: Vec<Disk>,
    /// A console on the terminal.
    pub(super) console: Option<Arc<dyn InputLine>>,
    /// Files of sockets that devices listen at.
    pub(super) sockets: Vec<SocketFile>,
}

/// Opens what a device needs, and makes it.
pub(super) fn make(spec: &DeviceSpec, made: &mut Made) -> Result<Ready, Error> {
    match spec {
        DeviceSpec::PvPanic { .. } => Ok(Ready::PvPanic),
        DeviceSpec::Blk { spec, drive } => {
            let Opened { image, backing } = image::open(drive)?;
            let size = image.size();
            let (handle, blk) = Blk::new(spec.clone(), image).map_err(device("disk"))?;
            made.disks.push(Disk {
                spec: spec.clone(),
                drive: drive.clone(),
                size,
                backing,
                handle,
            });
            Ok(Ready::Virtio(Box::new(blk)))
        }
        DeviceSpec::Net {
            spec,
            netdev,
            interface,
        } => {
            let tap = Tap::open(interface).map_err(|source| OpenError::Network {
                id: netdev.clone(),
                source,
            })?;
            let net = Net::new(spec.clone(), Box::new(tap)).map_err(device("network card"))?;
            Ok(Ready::Virtio(Box::new(net)))
        }
        DeviceSpec::VhostUser { spec, chardev, .. } => {
            let introduced = chardev::introduce(spec, &chardev.path, DAEMON)
                .map_err(|source| OpenError::daemon(chardev, source))?;
            Ok(Ready::VhostUser(introduced, chardev.clone()))
        }
        DeviceSpec::Console(spec) => {
            let outlet = outlets::console(&spec.to)?;
            let (handle, console) = Console::new(spec.id.clone(), outlet).map_err(device("console"))?;
            if spec.to == SerialSpec::Stdio {
                made.console = Some(Arc::new(handle));
            }
            Ok(Ready::Virtio(Box::new(console)))
        }
        DeviceSpec::Vsock { spec, socket } => {
            let (sockets, file) = PortSockets::bind(socket).map_err(OpenError::Sockets)?;
            made.sockets.push(file);
            let vsock = Vsock::new(spec.clone(), Box::new(sockets)).map_err(device("socket device"))?;
            Ok(Ready::Virtio(Box::new(vsock)))
        }
        DeviceSpec::Rng { spec, source } => {
            let source = open_entropy(&source.entropy)?;
            let rng = Rng::new(spec.clone(), source).map_err(device("entropy device"))?;
            Ok(Ready::Virtio(Box::new(rng)))
        }
    }
}

fn open_entropy(entropy: &Entropy) -> Result<EntropySource, OpenError> {
    match entropy {
        Entropy::Builtin => Ok(Box::new(KernelEntropy)),
        Entropy::File(path) => open_source(path),
    }
}

fn open_source(path: &Path) -> Result<EntropySource, OpenError> {
    let failed = |source| OpenError::OpenEntropy {
        path: path.to_owned(),
        source,
    };
    // A device without bytes shall not hold up its worker, nor a FIFO without a writer the start.
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let mut options = OpenOptions::new();
    let file = options
        .read(true)
        .custom_flags(nonblocking)
        .open(path)
        .map_err(failed)?;
    let kind = file.metadata().map_err(failed)?.file_type();
    if !(kind.is_char_device() || kind.is_fifo()) {
        return Err(OpenError::NotRandom {
            path: path.to_owned(),
        });
    }
    Ok(Box::new(file))
}
