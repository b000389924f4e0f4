//! Devices, and the objects that they are about.

use std::collections::HashSet;
use std::path::PathBuf;

use devices::virtio::blk::BlkSpec;
use devices::virtio::net::NetSpec;
use devices::virtio::rng::RngSpec;
use devices::virtio::vhost_user::{Kind, VhostUserSpec};
use devices::virtio::vsock::VsockSpec;

use crate::cli::Args;
use crate::cli::chardev::VhostUserBlkArg;
use crate::cli::device::{BalloonArg, DeviceArg};
use crate::cli::disk::{BlkArg, DriveArg, ImageFormat};
use crate::cli::object::Object;
use crate::cli::rng::{Entropy, RngArg, RngObject};

use super::console_plan::{self, ConsoleError, ConsoleSpec};
use super::net_plan::Networks;
use super::vhost_user_plan::{Chardev, Chardevs};
use super::{SerialSpec, only};

/// Queues of a disk that nobody chose.
const MOST_QUEUES: u16 = 16;

/// Devices that cannot be, or not together.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// Two objects with one name.
    #[error("two objects have the id '{id}'")]
    DuplicateObject {
        /// The id.
        id: String,
    },
    /// Two devices with one name.
    #[error("two devices have the id '{id}'")]
    DuplicateDevice {
        /// The id.
        id: String,
    },
    /// An object that was not defined.
    #[error(
        "virtio-rng-pci,rng={id}: there is no source of random bytes '{id}'; -object rng-random defines one"
    )]
    UnknownSource {
        /// The id.
        id: String,
    },
    /// A drive that was not defined.
    #[error(
        "virtio-blk-pci,drive={id}: there is no drive '{id}'; -drive id={id},if=none,file=…,format=raw defines it"
    )]
    UnknownDrive {
        /// The id.
        id: String,
    },
    /// A drive with more than one device.
    #[error("the drive '{id}' has two devices{hint}")]
    DriveTwice {
        /// The id.
        id: String,
        /// Where one of them is.
        hint: &'static str,
    },
    /// Two drives with one name.
    #[error("two drives have the id '{id}'")]
    DuplicateDrive {
        /// The id.
        id: String,
    },
    /// A console that cannot be.
    #[error(transparent)]
    Console(#[from] ConsoleError),
}

/// A device besides the balloon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceSpec {
    /// `virtio-rng-pci`.
    Rng {
        /// The device.
        spec: RngSpec,
        /// Its source.
        source: Source,
    },
    /// `virtio-blk-pci`.
    Blk {
        /// The device.
        spec: BlkSpec,
        /// Its image.
        drive: Drive,
    },
    /// `virtio-net-pci`.
    Net {
        /// The device.
        spec: NetSpec,
        /// Its network.
        netdev: String,
        /// The network's tap interface.
        interface: String,
    },
    /// One that a daemon serves: `vhost-user-blk-pci`, or `virtio-net-pci` with a `-netdev vhost-user`.
    VhostUser {
        /// The device.
        spec: VhostUserSpec,
        /// Where the daemon is.
        chardev: Chardev,
        /// The network that it is in, if it is a card.
        netdev: Option<String>,
    },
    /// `pvpanic-pci`.
    PvPanic {
        /// Its name.
        id: String,
    },
    /// `virtio-serial-pci` with its `virtconsole`.
    Console(ConsoleSpec),
    /// `virtio-vsock-pci`.
    Vsock {
        /// The device.
        spec: VsockSpec,
        /// Where programs of the host call.
        socket: PathBuf,
    },
}

impl DeviceSpec {
    /// Whether it has the terminal.
    pub fn has_stdio(&self) -> bool {
        matches!(self, DeviceSpec::Console(console) if console.to == SerialSpec::Stdio)
    }
}

/// An image that a disk has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drive {
    /// Its name.
    pub id: String,
    /// The file or block device.
    pub file: PathBuf,
    /// What is in it.
    pub format: ImageFormat,
    /// It is only read.
    pub read_only: bool,
}

/// Where random bytes come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The object, where the user named one.
    pub object: Option<String>,
    /// What it is.
    pub entropy: Entropy,
}

/// The devices in the order of the command line, the balloon apart.
pub(super) struct Plan {
    pub(super) balloon: Option<BalloonArg>,
    pub(super) devices: Vec<DeviceSpec>,
}

impl Plan {
    pub(super) fn has_stdio(&self) -> bool {
        self.devices.iter().any(DeviceSpec::has_stdio)
    }
}

pub(super) fn plan(args: &Args, warnings: &mut Vec<String>) -> Result<Plan, super::Error> {
    if let Some(id) = duplicate(args.object.iter().map(Object::id)) {
        return Err(DeviceError::DuplicateObject { id }.into());
    }
    let mut balloons = Vec::new();
    let mut others = Vec::new();
    let (mut buses, mut consoles, mut vsocks) = (Vec::new(), Vec::new(), Vec::new());
    for device in args.device.iter().cloned() {
        match device {
            DeviceArg::Balloon(arg) => balloons.push(arg),
            DeviceArg::SerialBus(arg) => buses.push(arg),
            DeviceArg::Console(arg) => consoles.push(arg),
            DeviceArg::Vsock(arg) => vsocks.push(arg),
            other @ (DeviceArg::Rng(_)
            | DeviceArg::Blk(_)
            | DeviceArg::Net(_)
            | DeviceArg::VhostUserBlk(_)
            | DeviceArg::PvPanic(_)) => others.push(other),
        }
    }
    let balloon = only("-device virtio-balloon-pci", "balloon", balloons)?;
    let given = (balloon.iter().map(|balloon| balloon.id.as_str())).chain(
        args.device
            .iter()
            .filter(|device| !matches!(device, DeviceArg::Balloon(_)))
            .filter_map(id),
    );
    let mut taken: HashSet<String> = given.clone().map(str::to_owned).collect();
    if let Some(id) = duplicate(given) {
        return Err(DeviceError::DuplicateDevice { id }.into());
    }
    let drives = drives(&args.drive, &mut others)?;
    let queues = args.smp.unwrap_or_default().vcpus().into();

    let sources: Vec<&RngObject> = args.object.iter().filter_map(entropy).collect();
    for source in &sources {
        let takes = |device: &DeviceArg| matches!(device, DeviceArg::Rng(rng) if rng.rng.as_ref() == Some(&source.id));
        if !others.iter().any(takes) {
            warnings.push(format!(
                "the source '{}' is not used: name it with -device virtio-rng-pci,rng=",
                source.id
            ));
        }
    }
    let mut chardevs = Chardevs::new(&args.chardev)?;
    let mut networks = Networks::new(&args.netdev, &others)?;
    let mut devices = Vec::new();
    for other in others {
        match other {
            DeviceArg::Balloon(_) | DeviceArg::SerialBus(_) | DeviceArg::Console(_) | DeviceArg::Vsock(_) => {
            }
            DeviceArg::Rng(arg) => devices.push(rng(arg, &sources, &mut taken)?),
            DeviceArg::Blk(arg) => devices.push(blk(arg, &drives, queues, &mut taken)?),
            DeviceArg::Net(arg) => devices.push(networks.card(arg, &mut chardevs, &mut taken)?),
            DeviceArg::VhostUserBlk(arg) => {
                devices.push(vhost_user_blk(arg, &mut chardevs, queues, &mut taken)?);
            }
            DeviceArg::PvPanic(id) => devices.push(DeviceSpec::PvPanic {
                id: name(id, "pvpanic", &mut taken),
            }),
        }
    }
    warnings.extend(networks.unused());
    warnings.extend(chardevs.unused());
    for drive in &drives {
        let has =
            |device: &DeviceSpec| matches!(device, DeviceSpec::Blk { drive: of, .. } if of.id == drive.id);
        match devices.iter().filter(|device| has(device)).count() {
            0 => warnings.push(format!(
                "the drive '{}' is not used: name it with -device virtio-blk-pci,drive=",
                drive.id
            )),
            1 => {}
            _ => {
                return Err(DeviceError::DriveTwice {
                    id: drive.id.clone(),
                    hint: match drive.arg.with_device {
                        true => ": with if=virtio it comes with one of its own; if=none brings none",
                        false => "",
                    },
                }
                .into());
            }
        }
    }
    let console = console_plan::plan(&buses, &consoles, &args.chardev, &mut taken, warnings)?;
    devices.extend(console.map(DeviceSpec::Console));
    // Linux takes one.
    let vsock = only("-device virtio-vsock-pci", "socket device", vsocks)?;
    devices.extend(vsock.map(|arg| DeviceSpec::Vsock {
        spec: VsockSpec {
            id: name(arg.id, "vsock", &mut taken),
            guest_cid: arg.guest_cid,
        },
        socket: arg.socket,
    }));
    Ok(Plan { balloon, devices })
}

fn id(device: &DeviceArg) -> Option<&str> {
    match device {
        DeviceArg::Balloon(arg) => Some(&arg.id),
        DeviceArg::Rng(arg) => arg.id.as_deref(),
        DeviceArg::Blk(arg) => arg.id.as_deref(),
        DeviceArg::Net(arg) => arg.id.as_deref(),
        DeviceArg::VhostUserBlk(arg) => arg.id.as_deref(),
        DeviceArg::PvPanic(id) => id.as_deref(),
        DeviceArg::SerialBus(arg) => arg.id.as_deref(),
        DeviceArg::Console(arg) => arg.id.as_deref(),
        DeviceArg::Vsock(arg) => arg.id.as_deref(),
    }
}

/// A drive with its name.
struct Named<'a> {
    id: String,
    arg: &'a DriveArg,
}

/// Gives drives their names; the devices of those that come with one join `devices`.
fn drives<'a>(args: &'a [DriveArg], devices: &mut Vec<DeviceArg>) -> Result<Vec<Named<'a>>, DeviceError> {
    let given = args.iter().filter_map(|drive| drive.id.as_deref());
    if let Some(id) = duplicate(given.clone()) {
        return Err(DeviceError::DuplicateDrive { id });
    }
    let mut taken: HashSet<String> = given.map(str::to_owned).collect();
    let mut named = Vec::new();
    for arg in args {
        let id = name(arg.id.clone(), "virtio", &mut taken);
        if arg.with_device {
            devices.push(DeviceArg::Blk(BlkArg {
                id: None,
                drive: id.clone(),
                serial: String::new(),
                queues: None,
            }));
        }
        named.push(Named { id, arg });
    }
    Ok(named)
}

fn blk(
    arg: BlkArg,
    drives: &[Named<'_>],
    queues: u16,
    taken: &mut HashSet<String>,
) -> Result<DeviceSpec, DeviceError> {
    let found = drives.iter().find(|drive| drive.id == arg.drive);
    let drive = found.ok_or_else(|| DeviceError::UnknownDrive {
        id: arg.drive.clone(),
    })?;
    Ok(DeviceSpec::Blk {
        spec: BlkSpec {
            id: name(arg.id, "disk", taken),
            serial: arg.serial,
            queues: arg.queues.unwrap_or_else(|| queues.min(MOST_QUEUES)),
            read_only: drive.arg.read_only,
            discard: drive.arg.discard,
        },
        drive: Drive {
            id: arg.drive,
            file: drive.arg.file.clone(),
            format: drive.arg.format,
            read_only: drive.arg.read_only,
        },
    })
}

fn vhost_user_blk(
    arg: VhostUserBlkArg,
    chardevs: &mut Chardevs<'_>,
    queues: u16,
    taken: &mut HashSet<String>,
) -> Result<DeviceSpec, super::Error> {
    let (chardev, reconnect) = chardevs.take("vhost-user-blk-pci", arg.chardev)?;
    Ok(DeviceSpec::VhostUser {
        spec: VhostUserSpec {
            id: name(arg.id, "vdisk", taken),
            kind: Kind::Blk,
            queues: arg.queues.unwrap_or_else(|| queues.min(MOST_QUEUES)),
            reconnect,
        },
        chardev,
        netdev: None,
    })
}

pub(super) fn duplicate<'a>(ids: impl Iterator<Item = &'a str>) -> Option<String> {
    let mut seen = HashSet::new();
    ids.into_iter().find(|id| !seen.insert(*id)).map(str::to_owned)
}

/// A name for a device that has none: `prefix` and the first number that is free.
pub(super) fn name(given: Option<String>, prefix: &str, taken: &mut HashSet<String>) -> String {
    given.unwrap_or_else(|| {
        let mut names = (0_u32..).map(|number| format!("{prefix}{number}"));
        names.find(|name| taken.insert(name.clone())).unwrap_or_default()
    })
}

fn entropy(object: &Object) -> Option<&RngObject> {
    match object {
        Object::Rng(source) => Some(source),
        Object::Memory(_) => None,
    }
}

fn rng(arg: RngArg, sources: &[&RngObject], taken: &mut HashSet<String>) -> Result<DeviceSpec, DeviceError> {
    let entropy = match &arg.rng {
        None => Entropy::Builtin,
        Some(id) => {
            let found = sources.iter().find(|source| source.id == *id);
            let unknown = || DeviceError::UnknownSource { id: id.clone() };
            found.ok_or_else(unknown)?.entropy.clone()
        }
    };
    Ok(DeviceSpec::Rng {
        spec: RngSpec {
            id: name(arg.id, "rng", taken),
            max_bytes: arg.max_bytes,
            period: arg.period,
        },
        source: Source {
            object: arg.rng,
            entropy,
        },
    })
}
