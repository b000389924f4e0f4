//! Options that QEMU's users type by habit and that change nothing here.

/// Accepted so that command lines work unchanged; a value that would mean something is refused.
#[derive(Clone, Debug, Default, PartialEq, clap::Args)]
pub struct Habits {
    /// KVM is the only accelerator; default: used
    #[arg(long, help_heading = "Accepted, changes nothing")]
    pub enable_kvm: bool,
    /// KVM is the only accelerator; default: kvm
    #[arg(long, value_name = "kvm", value_parser = ["kvm"], help_heading = "Accepted, changes nothing")]
    pub accel: Option<String>,
    /// There are no default devices; default: none
    #[arg(long, help_heading = "Accepted, changes nothing")]
    pub nodefaults: bool,
    /// There is no display; default: none
    #[arg(long, value_name = "none", value_parser = ["none"], help_heading = "Accepted, changes nothing")]
    pub display: Option<String>,
    /// There is no VGA; default: none
    #[arg(long, value_name = "none", value_parser = ["none"], help_heading = "Accepted, changes nothing")]
    pub vga: Option<String>,
    /// Messages have timestamps where the log wants them; default: timestamp=off
    #[arg(long, value_name = "timestamp=on|off", value_parser = ["timestamp=on", "timestamp=off"],
          help_heading = "Accepted, changes nothing")]
    pub msg: Option<String>,
}
