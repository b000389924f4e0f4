//! What to build: the options of a command line, checked together. Plain data; nothing is open yet.

use std::collections::BTreeMap;
use std::path::PathBuf;

use boot::BootSpec;
use devices::virtio::balloon::BalloonSpec;
use memory::backend::BackendSpec;
use memory::host::cpus::CpuList;
use memory::size::ByteSize;

use self::numa_plan::NumaPlan;
use crate::budget::BudgetCheck;
use crate::cli::Args;
use crate::cli::channel::{MonitorArg, QmpArg, SerialArg};
use crate::cli::lifecycle::PanicAction;
use crate::cpu_features::CpuFeatures;
use crate::machine::VcpuPlace;
use crate::topology::Topology;

pub use self::balloon::BalloonMismatch;
pub use self::console_plan::{ConsoleError, ConsoleSpec};
pub use self::device_plan::{DeviceError, DeviceSpec, Drive, Source};
pub use self::memory_plan::{BackendDefaults, MemoryError};
pub use self::net_plan::NetworkError;
pub use self::numa_plan::NumaError;
pub use self::vhost_user_plan::{Chardev, ChardevError};

mod balloon;
mod console_plan;
mod device_plan;
mod memory_plan;
mod net_plan;
mod numa_plan;
mod vhost_user_plan;

/// Why a command line makes no machine.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Without a kernel there is nothing to run.
    #[error("no kernel given: -kernel FILE names a bzImage or an ELF vmlinux")]
    KernelMissing,
    /// Memory options that do not fit together.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// A balloon that does not fit the guest's memory.
    #[error(transparent)]
    Balloon(#[from] BalloonMismatch),
    /// Devices that do not fit together.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// Networks and cards that do not fit together.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// Daemons and devices that do not fit together.
    #[error(transparent)]
    Chardev(#[from] ChardevError),
    /// Nodes that do not fit together.
    #[error(transparent)]
    Numa(#[from] NumaError),
    /// More than one of something of which there is one.
    #[error("{option} was given {count} times, but there is only one {what}")]
    TooMany {
        /// The option.
        option: &'static str,
        /// How often.
        count: usize,
        /// What there is one of.
        what: &'static str,
    },
    /// Two want the terminal.
    #[error("{first} and {second} cannot share the terminal; give one of them another place")]
    StdioTwice {
        /// One option.
        first: &'static str,
        /// Another.
        second: &'static str,
    },
    /// The monitor is to be at two places.
    #[error(
        "-serial mon:stdio has the monitor on the terminal, and -monitor elsewhere; -serial stdio leaves it there"
    )]
    SharedAlone,
    /// The terminal is left, and something is to be on it.
    #[error("-daemonize leaves the terminal, and {option} is on it; give it another place")]
    DaemonStdio {
        /// The option.
        option: &'static str,
    },
    /// Two sockets with one path.
    #[error("the socket '{}' is used twice", path.display())]
    SocketTwice {
        /// The path.
        path: PathBuf,
    },
}

/// Where the guest's serial port goes, or a console of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SerialSpec {
    /// The terminal.
    Stdio,
    /// Nowhere.
    None,
    /// A file, which is emptied first.
    File(PathBuf),
}

impl From<SerialArg> for SerialSpec {
    fn from(place: SerialArg) -> Self {
        match place {
            SerialArg::Stdio | SerialArg::Shared => SerialSpec::Stdio,
            SerialArg::None => SerialSpec::None,
            SerialArg::File(path) => SerialSpec::File(path),
        }
    }
}

/// Where the monitor for people is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MonitorSpec {
    /// There is none.
    None,
    /// On the terminal.
    Stdio,
    /// On the terminal, which it shares with the serial port.
    Shared,
    /// On a unix socket.
    Unix(PathBuf),
}

/// A QMP socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QmpSpec {
    /// Its file.
    pub path: PathBuf,
}

/// The guest's NUMA nodes, numbered from 0. Their memory is told by the backends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NumaSpec {
    /// The node of each place for a vCPU, those with one first.
    pub vcpus: Vec<u32>,
    /// From each node (row) to each node (column).
    pub distances: Vec<Vec<u8>>,
}

impl NumaSpec {
    fn new(nodes: NumaPlan) -> NumaSpec {
        let NumaPlan { nodes, distances } = nodes;
        let mut vcpus: Vec<(u8, u32)> = (0..)
            .zip(&nodes)
            .flat_map(|(id, node)| node.vcpus.iter().map(move |vcpu| (*vcpu, id)))
            .collect();
        vcpus.sort_unstable();
        NumaSpec {
            vcpus: vcpus.into_iter().map(|(_, node)| node).collect(),
            distances,
        }
    }
}

/// A machine to build.
#[derive(Clone, Debug)]
pub struct Config {
    /// Name of the guest.
    pub name: Option<String>,
    /// The vCPUs.
    pub topology: Topology,
    /// What their processor has and has not.
    pub cpu: CpuFeatures,
    /// RAM of the guest: the sum of `backends`.
    pub memory: ByteSize,
    /// Backends of RAM, lowest guest address first.
    pub backends: Vec<BackendSpec>,
    /// Backends that are no part of the guest.
    pub objects: Vec<BackendSpec>,
    /// What holds for backends that come later.
    pub defaults: BackendDefaults,
    /// The directory of `-mem-path`, if the first backend is the one that lies in it.
    pub mem_path: Option<PathBuf>,
    /// What to do where the host may not have all this.
    pub budget_check: BudgetCheck,
    /// The NUMA nodes; `None`: one, of which the guest does not hear.
    pub numa: Option<NumaSpec>,
    /// Where on the host the vCPUs run, by index; the others run anywhere.
    pub host_cpus: BTreeMap<u8, CpuList>,
    /// The kernel.
    pub boot: BootSpec,
    /// Serial port.
    pub serial: SerialSpec,
    /// Monitor for people.
    pub monitor: MonitorSpec,
    /// Monitors for programs.
    pub qmp: Vec<QmpSpec>,
    /// The balloon.
    pub balloon: Option<BalloonSpec>,
    /// The other devices, in the order of their PCI slots, which follow the balloon's.
    pub devices: Vec<DeviceSpec>,
    /// A reset is the end.
    pub no_reboot: bool,
    /// What follows a panic of the guest's kernel.
    pub on_panic: PanicAction,
    /// Let no vCPU run before `cont`.
    pub start_paused: bool,
    /// Go on in the background.
    pub daemonize: bool,
    /// Where the process id is to stand.
    pub pid_file: Option<PathBuf>,
    /// Say more.
    pub verbose: bool,
    /// What is strange but not wrong, for a person; to be printed before the start.
    pub warnings: Vec<String>,
}

impl Config {
    /// Checks `args` together and fills in the defaults.
    pub fn new(args: Args) -> Result<Config, Error> {
        let mut warnings = Vec::new();
        let topology = args.smp.unwrap_or_default();
        if topology.vcpus() < topology.places() {
            warnings.push(format!(
                "-smp: the guest is told of {} CPUs and has {}: the others may come, it believes, but Ballast plugs none in",
                topology.places(),
                topology.vcpus()
            ));
        }
        let nodes = numa_plan::plan(&args.numa, topology)?;
        let devices = device_plan::plan(&args, &mut warnings)?;
        let memory = memory_plan::plan(&args, &nodes.nodes, &mut warnings)?;
        let monitor = only("-monitor", "monitor", args.monitor)?;
        let serial = only("-serial", "serial port", args.serial)?;
        let (serial, serial_option) = match args.nographic && serial.is_none() && monitor.is_none() {
            true => (Some(SerialArg::Shared), "-nographic"),
            false => (serial, "-serial stdio"),
        };
        let monitor = match (monitor, &serial) {
            (None | Some(MonitorArg::Stdio), Some(SerialArg::Shared)) => MonitorSpec::Shared,
            (Some(_), Some(SerialArg::Shared)) => return Err(Error::SharedAlone),
            (None | Some(MonitorArg::None), _) => MonitorSpec::None,
            (Some(MonitorArg::Stdio), _) => MonitorSpec::Stdio,
            (Some(MonitorArg::Unix(path)), _) => MonitorSpec::Unix(path),
        };
        let terminal: Vec<_> = [
            (
                serial_option,
                matches!(serial, Some(SerialArg::Stdio | SerialArg::Shared)),
            ),
            ("-monitor stdio", monitor == MonitorSpec::Stdio),
            ("-chardev stdio", devices.has_stdio()),
        ]
        .into_iter()
        .filter_map(|(option, wants)| wants.then_some(option))
        .collect();
        if let [first, second, ..] = terminal[..] {
            return Err(Error::StdioTwice { first, second });
        }
        if let (true, [option]) = (args.daemonize, &terminal[..]) {
            return Err(Error::DaemonStdio { option });
        }
        let serial = match serial {
            None if terminal.is_empty() && !args.daemonize => SerialSpec::Stdio,
            None => SerialSpec::None,
            Some(place) => place.into(),
        };
        let qmp: Vec<_> = args
            .qmp
            .into_iter()
            .map(|QmpArg { path }| QmpSpec { path })
            .collect();
        check_sockets(&monitor, &qmp)?;
        let balloon = devices
            .balloon
            .map(|arg| balloon::spec(arg, memory.size, &memory.backends))
            .transpose()?;
        Ok(Config {
            name: args.name,
            topology,
            cpu: args.cpu.unwrap_or_default(),
            host_cpus: nodes.host_cpus(topology),
            numa: (nodes.nodes.len() > 1).then(|| NumaSpec::new(nodes)),
            memory: memory.size,
            budget_check: args
                .overcommit
                .iter()
                .rev()
                .find_map(|overcommit| overcommit.check)
                .unwrap_or_default(),
            backends: memory.backends,
            objects: memory.objects,
            defaults: memory.defaults,
            mem_path: args.mem_path,
            boot: BootSpec {
                kernel: args.kernel.ok_or(Error::KernelMissing)?,
                initrd: args.initrd,
                cmdline: args.append.unwrap_or_default(),
            },
            serial,
            monitor,
            qmp,
            balloon,
            devices: devices.devices,
            no_reboot: args
                .action
                .iter()
                .rev()
                .find_map(|action| action.no_reboot)
                .unwrap_or(args.no_reboot),
            on_panic: args
                .action
                .iter()
                .rev()
                .find_map(|action| action.panic)
                .unwrap_or_default(),
            start_paused: args.start_paused,
            daemonize: args.daemonize,
            pid_file: args.pidfile,
            verbose: args.verbose,
            warnings,
        })
    }

    /// Whether the guest has the terminal.
    pub fn guest_has_stdio(&self) -> bool {
        self.serial == SerialSpec::Stdio || self.devices.iter().any(DeviceSpec::has_stdio)
    }

    /// Where a vCPU is in the guest.
    pub fn place(&self, vcpu: u8) -> VcpuPlace {
        let numa = self.numa.as_ref();
        VcpuPlace {
            socket: self.topology.socket(vcpu),
            core: self.topology.core(vcpu),
            thread: self.topology.thread(vcpu),
            node: numa.and_then(|numa| numa.vcpus.get(usize::from(vcpu)).copied()),
        }
    }

    /// Whether somebody could say `cont` to a machine that was stopped.
    pub fn is_attended(&self) -> bool {
        self.monitor != MonitorSpec::None || !self.qmp.is_empty()
    }
}

/// The one value of an option that may be given once.
fn only<T>(option: &'static str, what: &'static str, values: Vec<T>) -> Result<Option<T>, Error> {
    match values.len() {
        0 | 1 => Ok(values.into_iter().next()),
        count => Err(Error::TooMany { option, count, what }),
    }
}

fn check_sockets(monitor: &MonitorSpec, qmp: &[QmpSpec]) -> Result<(), Error> {
    let mut paths: Vec<_> = qmp.iter().map(|spec| &spec.path).collect();
    if let MonitorSpec::Unix(path) = monitor {
        paths.push(path);
    }
    paths.sort();
    match paths.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(Error::SocketTwice {
            path: pair[0].clone(),
        }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
