//! `-device`.

use std::time::Duration;

use memory::size::{ByteSize, SizeUnit};

use super::chardev::{self, VhostUserBlkArg};
use super::console::{self, ConsoleArg, SerialBusArg};
use super::disk::{self, BlkArg};
use super::keyval;
use super::net::{self, NetArg};
use super::properties::devices::{BALLOON, BLK, CONSOLE, PVPANIC, RNG, SERIAL_BUS, VSOCK};
use super::properties::net::NET;
use super::properties::vhost_user::BLK as VHOST_USER_BLK;
use super::properties::{Family, Properties};
use super::rng::{self, RngArg};
use super::value::ValueError;
use super::vsock::{self, VsockArg};

/// `-device virtio-balloon-pci`, as typed: what depends on the guest's memory is decided with it.
#[derive(Clone, Debug, PartialEq)]
pub struct BalloonArg {
    /// `id=`.
    pub id: String,
    /// `initial=`.
    pub initial: Option<ByteSize>,
    /// `min=`.
    pub min: ByteSize,
    /// `deflate-on-oom=`.
    pub deflate_on_oom: bool,
    /// `deflate-on-distress=`.
    pub deflate_on_distress: bool,
    /// `free-page-reporting=`.
    pub reporting: Option<bool>,
    /// `page-poison=`.
    pub page_poison: bool,
    /// `guest-stats-polling-interval=`, or what `deflate-on-distress=` needs; 0 for never.
    pub stats_interval: Duration,
}

/// How often a guest is asked whether it is in distress, unless something else was said.
const DISTRESS_INTERVAL: Duration = Duration::from_secs(1);

/// One `-device`.
#[derive(Clone, Debug, PartialEq)]
pub enum DeviceArg {
    /// `virtio-balloon-pci`.
    Balloon(BalloonArg),
    /// `virtio-rng-pci`.
    Rng(RngArg),
    /// `virtio-blk-pci`.
    Blk(BlkArg),
    /// `virtio-net-pci`.
    Net(NetArg),
    /// `vhost-user-blk-pci`.
    VhostUserBlk(VhostUserBlkArg),
    /// `pvpanic-pci`, with its `id=`.
    PvPanic(Option<String>),
    /// `virtio-serial-pci`.
    SerialBus(SerialBusArg),
    /// `virtconsole`.
    Console(ConsoleArg),
    /// `virtio-vsock-pci`.
    Vsock(VsockArg),
}

/// A device that there is: its properties, QEMU's other name for it, and what makes an argument of it.
type Driver = (
    &'static Family,
    &'static str,
    fn(&Properties) -> Result<DeviceArg, ValueError>,
);

const DRIVERS: &[Driver] = &[
    (&BALLOON, "virtio-balloon", |properties| {
        balloon(properties).map(DeviceArg::Balloon)
    }),
    (&RNG, "virtio-rng", |properties| {
        rng::device(properties).map(DeviceArg::Rng)
    }),
    (&BLK, "virtio-blk", |properties| {
        disk::device(properties).map(DeviceArg::Blk)
    }),
    (&NET, "virtio-net", |properties| {
        net::device(properties).map(DeviceArg::Net)
    }),
    (&VHOST_USER_BLK, "vhost-user-blk", |properties| {
        chardev::blk(properties).map(DeviceArg::VhostUserBlk)
    }),
    (&PVPANIC, "pvpanic-pci", |properties| {
        properties.id("id").map(DeviceArg::PvPanic)
    }),
    (&SERIAL_BUS, "virtio-serial", |properties| {
        console::bus(properties).map(DeviceArg::SerialBus)
    }),
    (&CONSOLE, "virtconsole", |properties| {
        console::console(properties).map(DeviceArg::Console)
    }),
    (&VSOCK, "vhost-vsock-pci", |properties| {
        vsock::device(properties).map(DeviceArg::Vsock)
    }),
];

/// `-device DRIVER,…`.
pub fn device(text: &str) -> Result<DeviceArg, ValueError> {
    let (driver, pairs) = keyval::typed(keyval::split(text, Some("driver"))?, "-device", "driver")?;
    let found = (DRIVERS.iter()).find(|(family, alias, _)| [family.owner, *alias].contains(&driver.as_str()));
    let (family, _, read) = found.ok_or_else(|| {
        let names = DRIVERS.iter().map(|(family, ..)| family.owner);
        ValueError::unknown_type("device", driver, names)
    })?;
    read(&family.accept(pairs)?)
}

fn balloon(properties: &Properties) -> Result<BalloonArg, ValueError> {
    if properties.switch("free-page-hint")? == Some(true) {
        return Err(ValueError::Refused {
            what: "free-page-hint=on",
            why: "without migration nothing can use a hint safely",
        });
    }
    let switch = |name, default| properties.switch(name).map(|value| value.unwrap_or(default));
    let deflate_on_distress = switch("deflate-on-distress", false)?;
    Ok(BalloonArg {
        id: properties.id("id")?.unwrap_or_else(|| "balloon0".to_owned()),
        initial: some_memory(properties, "initial")?,
        min: some_memory(properties, "min")?.unwrap_or_default(),
        deflate_on_oom: switch("deflate-on-oom", false)?,
        deflate_on_distress,
        reporting: properties.switch("free-page-reporting")?,
        page_poison: switch("page-poison", true)?,
        stats_interval: stats_interval(properties, deflate_on_distress)?,
    })
}

/// Guests with less than a MiB do not run: whoever asks for one forgot a suffix.
fn some_memory(properties: &Properties, name: &str) -> Result<Option<ByteSize>, ValueError> {
    match properties.size(name, SizeUnit::Byte)? {
        Some(size) if size < ByteSize::mib(1) => {
            Err(properties.wrong(name, "at least 1M; a bare number counts bytes"))
        }
        size => Ok(size),
    }
}

fn stats_interval(properties: &Properties, deflate_on_distress: bool) -> Result<Duration, ValueError> {
    match (
        properties.seconds("guest-stats-polling-interval")?,
        deflate_on_distress,
    ) {
        (Some(Duration::ZERO), true) => Err(ValueError::Conflict(
            "deflate-on-distress=on needs statistics: guest-stats-polling-interval=0 turns them off",
        )),
        (Some(interval), _) => Ok(interval),
        (None, true) => Ok(DISTRESS_INTERVAL),
        (None, false) => Ok(Duration::ZERO),
    }
}

#[cfg(test)]
mod tests;
