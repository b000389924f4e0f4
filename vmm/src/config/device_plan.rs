//! Devices, and the objects that they are about.

use std::collections::HashSet;

use devices::virtio::rng::RngSpec;

use crate::cli::Args;
use crate::cli::device::{BalloonArg, DeviceArg};
use crate::cli::object::Object;
use crate::cli::rng::{Entropy, RngArg, RngObject};

use super::only;

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

pub(super) fn plan(args: &Args, warnings: &mut Vec<String>) -> Result<Plan, super::Error> {
    if let Some(id) = duplicate(args.object.iter().map(Object::id)) {
        return Err(DeviceError::DuplicateObject { id }.into());
    }
    let (mut balloons, mut rngs) = (Vec::new(), Vec::new());
    for device in args.device.iter().cloned() {
        match device {
            DeviceArg::Balloon(arg) => balloons.push(arg),
            DeviceArg::Rng(arg) => rngs.push(arg),
        }
    }
    let balloon = only("-device virtio-balloon-pci", "balloon", balloons)?;
    let given = (balloon.iter().map(|balloon| balloon.id.as_str()))
        .chain(rngs.iter().filter_map(|rng| rng.id.as_deref()));
    let mut taken: HashSet<String> = given.clone().map(str::to_owned).collect();
    if let Some(id) = duplicate(given) {
        return Err(DeviceError::DuplicateDevice { id }.into());
    }

    let sources: Vec<&RngObject> = args.object.iter().filter_map(entropy).collect();
    for source in &sources {
        if rngs.iter().all(|rng| rng.rng.as_ref() != Some(&source.id)) {
            warnings.push(format!(
                "the source '{}' is not used: name it with -device virtio-rng-pci,rng=",
                source.id
            ));
        }
    }
    let devices = rngs.into_iter().map(|arg| rng(arg, &sources, &mut taken));
    Ok(Plan {
        balloon,
        devices: devices.collect::<Result<_, _>>()?,
    })
}

fn duplicate<'a>(ids: impl Iterator<Item = &'a str>) -> Option<String> {
    let mut seen = HashSet::new();
    ids.into_iter().find(|id| !seen.insert(*id)).map(str::to_owned)
}

/// A name for a device that has none: `prefix` and the first number that is free.
fn name(given: Option<String>, prefix: &str, taken: &mut HashSet<String>) -> String {
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
