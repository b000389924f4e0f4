//! What the lab host is asked to do: written by the lab into the initramfs, read by the lab host's first program.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Where the job lies in the lab host.
pub const JOB_FILE: &str = "/lab/job.json";
/// Kernel modules of the lab host, one file name a line in the order of loading; the files lie beside it.
pub const MODULE_LIST: &str = "/lab/modules/list";
/// Where the lab's programs lie in the lab host; the first entry of its PATH.
pub const PROGRAMS: &str = "/lab/bin";

/// The virtio port that carries standard input and output of a job without a terminal.
pub const PORT_OUTPUT: &str = "ballast.out";
/// The virtio port that carries standard error.
pub const PORT_ERROR: &str = "ballast.err";
/// The virtio port on which the lab host tells how the job ended.
pub const PORT_STATUS: &str = "ballast.status";
/// The terminal of a job that has one.
pub const TERMINAL: &str = "/dev/hvc0";

/// One command, run once by one lab host.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Job {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Variables added to the environment.
    pub environment: Vec<(String, String)>,
    /// The working directory, created when it is not there.
    pub directory: PathBuf,
    /// The terminal's size when the job is to have one, rows and columns.
    pub terminal: Option<(u16, u16)>,
}
