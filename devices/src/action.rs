//! What a register write asks of the machine.

/// What the machine has to do after a guest's register write.
///
/// A device has no handle on the machine: it answers a write with one of these, and the vCPU thread that made the
/// write passes it on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use = "the machine has to act on what the guest asked for"]
pub enum Action {
    /// Nothing beyond the device.
    #[default]
    None,
    /// The guest asked for a reset of the machine.
    Reset,
    /// The guest asked to be powered off.
    PowerOff,
    /// The guest's kernel has panicked.
    Panicked,
    /// The guest's kernel has panicked, and another one is about to save what it can.
    CrashLoaded,
}
