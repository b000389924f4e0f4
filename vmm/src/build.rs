//! From a [`Config`] to the parts of a machine, in the order in which things depend on each other.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use boot::{BootPlatform, GuestNuma};
use devices::bus::{Bus, BusError, BusKind};
use devices::fault::Faults;
use devices::pci::{CONFIG_PORT, CONFIG_PORTS, PciError, PciRoot};
use devices::power::{KEYBOARD_PORT, KeyboardReset, POWER_PORTS, Power};
use devices::serial::{SERIAL_PORTS, SerialPort};
use devices::typed::InputLine;
use devices::virtio::balloon::{Balloon, BalloonError, BalloonHandle, Reporting};
use memory::layout;
use memory::ram::{OpenBackend, Ram};
use memory::region::Region;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use self::power_on::PowerOn;
use self::slots::{Made, OpenError, Slots};
use crate::budget;
use crate::config::{Config, NumaSpec};
use crate::control::block_report::Disk;
use crate::control::daemon_report::Daemon;
use crate::control::socket::SocketFile;
use crate::gate::Hurry;
use crate::host::bus_error::BusErrors;
use crate::image::ImageError;
use crate::kvm::cpuid::{self, Processors};
use crate::kvm::vcpu::Buses;
use crate::kvm::vm::Vm;
use crate::kvm::{self, kick};
use crate::news::{News, NewsSender};
use crate::objects;
use crate::pinning::{self, PinError};
use crate::platform::Platform;
use crate::progress::Progress;
use crate::stage::{Freezer, Stage};

mod outlets;
pub mod power_on;
mod slots;

/// Why a machine could not be built.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel, the initramfs or the command line cannot be used.
    #[error(transparent)]
    Boot(#[from] boot::LoadError),
    /// The KVM of this host cannot be used.
    #[error(transparent)]
    Kvm(#[from] kvm::Error),
    /// The host has too little for the guest.
    #[error(transparent)]
    Budget(#[from] budget::Error),
    /// Guest memory could not be had as asked.
    #[error(transparent)]
    Memory(#[from] memory::ram::RamError),
    /// A backend that is no part of the guest could not be had.
    #[error(transparent)]
    Objects(#[from] objects::Error),
    /// `-mem-path` names no directory.
    #[error(
        "-mem-path {} is no directory to put RAM into (a file with a name is -object memory-backend-file,mem-path=)",
        path.display()
    )]
    MemPath {
        /// What it names.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A vCPU cannot run on the CPUs asked for.
    #[error(transparent)]
    Pinning(#[from] PinError),
    /// KVM refused the machine.
    #[error(transparent)]
    Vm(#[from] kvm::vm::Error),
    /// KVM refused a vCPU.
    #[error(transparent)]
    Vcpu(#[from] kvm::vcpu::Error),
    /// KVM refused the state of a vCPU.
    #[error(transparent)]
    Setup(#[from] kvm::setup::Error),
    /// The guest cannot have the processor that it is to have.
    #[error(transparent)]
    Cpuid(#[from] cpuid::Error),
    /// A device could not be made.
    #[error("cannot make the {device}")]
    Device {
        /// Which one.
        device: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// The balloon could not be made.
    #[error(transparent)]
    Balloon(#[from] BalloonError),
    /// An image cannot be a disk.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// What a device works with could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The PCI function of a device could not be made.
    #[error(transparent)]
    Virtio(#[from] devices::virtio::pci::Error),
    /// Two devices claim the same slot: a bug of ours.
    #[error(transparent)]
    Pci(#[from] PciError),
    /// Two devices claim the same addresses: a bug of ours.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The file of `-serial file:` or `-chardev file` cannot be written.
    #[error("cannot open {} for the guest's output", path.display())]
    OutputFile {
        /// Its path.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A thread could not be started.
    #[error("cannot start a thread")]
    Threads(#[source] io::Error),
    /// The handler of the signal that stops vCPUs could not be installed.
    #[error("cannot install the handler of the vCPU signal")]
    Handler(#[source] vmm_sys_util::errno::Error),
}

fn device(device: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Device { device, source }
}

/// What a machine keeps, besides its vCPU threads.
#[derive(Debug)]
pub struct Parts {
    /// Guest memory.
    pub ram: Ram,
    /// What a reset needs, KVM's virtual machine among it.
    pub power_on: Arc<PowerOn>,
    /// What the guest did wrong.
    pub faults: Arc<Faults>,
    /// The ACPI power registers.
    pub power: Arc<Power>,
    /// Control of the balloon, if there is one.
    pub balloon: Option<BalloonHandle>,
    /// Its disks.
    pub disks: Vec<Disk>,
    /// Its devices that daemons serve.
    pub daemons: Vec<Daemon>,
    /// What gets that which is typed.
    pub typing: Arc<dyn InputLine>,
    pci: PciRoot,
    /// Removed when all is over.
    _sockets: Vec<SocketFile>,
}

impl Drop for Parts {
    /// Others may hold the devices yet, as a reset that waits for one of them; so their end is not left to the last of these.
    fn drop(&mut self) {
        self.pci.end(&BusErrors::waits);
    }
}

/// Makes everything but the vCPUs. Memory is mapped, and nobody may touch it yet. Output that waits in a vCPU's thread looks at
/// `hurry`.
pub fn parts(config: &Config, hurry: &Hurry, news: &NewsSender, freezer: Freezer) -> Result<Parts, Error> {
    // Everything that can be refused is refused before memory is taken.
    config.mem_path.as_deref().map_or(Ok(()), check_mem_path)?;
    (config.host_cpus.iter()).try_for_each(|(vcpu, cpus)| pinning::check(*vcpu, cpus))?;
    boot::check(&config.boot, config.memory)?;
    let kvm = kvm::open()?;
    match kvm::runs_kernels() {
        // Memory can be set up, looked at and measured without a vCPU that runs.
        Err(error @ kvm::Error::Software) if config.start_paused => eprintln!("ballast: warning: {error}"),
        checked => checked?,
    }
    if let Some(warning) = kvm::check_vcpus(&kvm, config.topology)? {
        eprintln!("ballast: warning: {warning}");
    }
    let nodes = config.numa.as_ref().map(|numa| numa.vcpus.clone());
    let nodes = nodes.unwrap_or_default();
    let processors = Processors::new(&kvm, config.topology, nodes, config.cpu.clone())?;
    let phys_bits = processors.physical_bits();
    if let Some(warning) = budget::check(config, phys_bits)? {
        eprintln!("ballast: warning: {warning}");
    }
    let output = outlets::serial(&config.serial, hurry)?;
    kick::install_handler().map_err(Error::Handler)?;

    slots::check_shared(config)?;
    let mut made = Made::default();
    let make = |spec| slots::make(spec, &mut made);
    let devices = config.devices.iter().map(make).collect::<Result<Vec<_>, _>>()?;
    let ram = Ram::map(config.backends.clone(), &Progress::new(freezer))?;
    report_backends(&ram, config);
    let vm = Vm::new(kvm, ram.clone())?;
    freezer.reached(Stage::Slots);

    let faults = Arc::new(Faults::default());
    let line = || EventFd::new(EFD_NONBLOCK);
    let serial_line = line().map_err(device("serial port"))?;
    vm.connect_line(&serial_line, layout::COM1_GSI)?;
    let serial = Arc::new(SerialPort::new(serial_line, output).map_err(device("serial port"))?);
    let power_line = line().map_err(device("power registers"))?;
    vm.connect_line(&power_line, layout::GED_GSI)?;
    let power = Arc::new(Power::new(power_line));
    let pci = PciRoot::new(faults.clone());
    let mut slots = Slots {
        ram: &ram,
        vm: &vm,
        pci: &pci,
        faults: &faults,
        places: Platform::default(),
        daemons: Vec::new(),
    };
    let balloon = add_balloon(config, &mut slots, news)?;
    for device in devices {
        slots.add(device)?;
    }
    let daemons = slots.daemons;

    let mut ports = Bus::new(BusKind::Ports, faults.clone());
    ports.insert(u64::from(layout::COM1_PORT), SERIAL_PORTS, serial.clone())?;
    ports.insert(u64::from(layout::POWER_PORT), POWER_PORTS, power.clone())?;
    ports.insert(KEYBOARD_PORT, 1, Arc::new(KeyboardReset))?;
    ports.insert(CONFIG_PORT, CONFIG_PORTS, pci.ports())?;
    let mut mmio = Bus::new(BusKind::Mmio, faults.clone());
    mmio.insert(layout::ECAM_START, layout::ECAM_SIZE, pci.ecam())?;
    let window = layout::PCI32_WINDOW_END - layout::PCI32_WINDOW_START;
    mmio.insert(layout::PCI32_WINDOW_START, window, pci.window())?;

    let topology = config.topology;
    let platform = BootPlatform {
        apic_ids: (0..topology.places())
            .map(|place| topology.apic_id(place))
            .collect(),
        vcpus: topology.vcpus().into(),
        phys_bits,
        pci64_window: None,
        numa: config.numa.as_ref().map(|numa| guest_numa(numa, &ram)),
    };
    let power_on = PowerOn {
        ram: ram.clone(),
        vm,
        buses: Buses {
            ports: Arc::new(ports),
            mmio: Arc::new(mmio),
        },
        boot: config.boot.clone(),
        platform,
        processors,
    };
    let typing = made.console.unwrap_or(serial);
    Ok(Parts {
        ram,
        power_on: Arc::new(power_on),
        faults,
        power,
        balloon,
        disks: made.disks,
        daemons,
        typing,
        pci,
        _sockets: made.sockets,
    })
}

/// The nodes with the pieces that their backends have in the guest.
fn guest_numa(numa: &NumaSpec, ram: &Ram) -> GuestNuma {
    let piece = |region: &Region| {
        let backend = ram.backends().get(region.backend())?;
        Some((region.guest(), backend.spec().guest_node))
    };
    GuestNuma {
        cpus: numa.vcpus.clone(),
        memory: ram.regions().iter().filter_map(piece).collect(),
        distances: numa.distances.clone(),
    }
}

/// A word that is no directory is more likely a slip than the wish for a new file, which `-mem-path` makes with QEMU.
fn check_mem_path(path: &Path) -> Result<(), Error> {
    let checked = fs::metadata(path).and_then(|place| match place.is_dir() {
        true => Ok(()),
        false => Err(io::ErrorKind::NotADirectory.into()),
    });
    checked.map_err(|source| Error::MemPath {
        path: path.to_owned(),
        source,
    })
}

/// What the user should know about what was asked of each backend.
fn report_backends(ram: &Ram, config: &Config) {
    if let (Some(path), [backend, ..]) = (&config.mem_path, ram.backends())
        && !backend.page_size().is_huge()
    {
        eprintln!(
            "ballast: warning: -mem-path {} has no huge pages: the guest gets pages of {}",
            path.display(),
            backend.page_size()
        );
    }
    for backend in ram.backends() {
        if let (Some(reason), Some(balloon)) = (backend.keeps(), &config.balloon) {
            eprintln!(
                "ballast: warning: the balloon '{}' gets nothing back of backend '{}': {reason}",
                balloon.id,
                backend.spec().id
            );
        }
        report_backend(backend);
    }
}

/// What the user should know about defaults of a backend that did not take effect.
pub(crate) fn report_backend(backend: &OpenBackend) {
    for warning in backend.warnings() {
        eprintln!("ballast: warning: {warning}");
    }
}

fn add_balloon(
    config: &Config,
    slots: &mut Slots<'_>,
    news: &NewsSender,
) -> Result<Option<BalloonHandle>, Error> {
    let Some(spec) = &config.balloon else {
        return Ok(None);
    };
    let (mut spec, ram) = (spec.clone(), slots.ram);
    if let Some(reason) = keeps_all(ram) {
        spec.reporting = Reporting::Off(reason);
    }
    let news = news.clone();
    let (handle, balloon) = Balloon::new(
        spec,
        ram.clone(),
        Box::new(move |told| news.send(News::Balloon(told))),
    )?;
    slots.add_virtio(Box::new(balloon))?;
    Ok(Some(handle))
}

/// Why no memory goes back to the host, whoever asks; `None` where some does.
fn keeps_all(ram: &Ram) -> Option<String> {
    let reasons = ram
        .backends()
        .iter()
        .map(|backend| Some(format!("backend '{}': {}", backend.spec().id, backend.keeps()?)));
    Some(reasons.collect::<Option<Vec<_>>>()?.join("; "))
}

#[cfg(test)]
mod tests;
