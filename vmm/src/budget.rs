//! Whether the host can bear a guest: the check of `-overcommit check=`.

use memory::budget::{Budget, OverBudget};
use memory::layout;
use memory::size::ByteSize;

use crate::config::Config;

/// What `-overcommit check=` says of a guest that can need more than there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BudgetCheck {
    /// It does not start.
    Refuse,
    /// It starts with a warning.
    #[default]
    Warn,
    /// Nobody looks.
    Off,
}

/// Why a guest is too large for the host.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The processor has no addresses for it.
    #[error(
        "the guest's RAM of {ram} ends at {end:#x}, but a physical address of this host has {bits} bits: \
         make it smaller than {most}"
    )]
    TooWide {
        /// All RAM.
        ram: ByteSize,
        /// Its end in the guest.
        end: u64,
        /// Width of a physical address.
        bits: u8,
        /// What has room below.
        most: ByteSize,
    },
    /// It can cost more than the host has.
    #[error("{over}; -overcommit check=warn starts it all the same")]
    Over {
        /// What is short.
        over: OverBudget,
    },
}

/// Ballast's own memory with an idle guest, measured at 3.3 MiB, and what the kernel keeps for the process and KVM's VM.
const OWN: ByteSize = ByteSize::mib(6);
/// A vCPU: its thread's stack in use, its shared page, and KVM's state.
const VCPU: u64 = 128 << 10;
/// The queues of a balloon: the record of chains and ranges of rings of 32768 entries.
const QUEUES: ByteSize = ByteSize::mib(4);

/// What the guest can cost.
fn budget(config: &Config) -> Budget {
    let vcpus = ByteSize::from_bytes(VCPU * u64::from(config.topology.vcpus()));
    let queues = config.balloon.as_ref().map(|_| ("queues", QUEUES));
    let own = [("vCPUs", vcpus), ("Ballast itself", OWN)];
    Budget::new(
        config.backends.iter().chain(&config.objects),
        own.into_iter().chain(queues),
    )
}

/// Checks before memory is taken. `bits` is the width of a guest-physical address. Returns a warning where there is something to
/// say.
///
/// # Errors
/// [`Error`] when the guest cannot be, or shall not.
pub fn check(config: &Config, bits: u8) -> Result<Option<String>, Error> {
    check_width(config.memory, bits)?;
    if config.budget_check == BudgetCheck::Off {
        return Ok(None);
    }
    let budget = budget(config);
    if config.verbose {
        eprintln!("ballast: {budget}");
    }
    match (budget.check(), config.budget_check) {
        (Err(over), BudgetCheck::Refuse) => Err(Error::Over { over }),
        (Err(over), _) => Ok(Some(format!("{over}; -overcommit check=off ends this warning"))),
        (Ok(()), _) => Ok(None),
    }
}

fn check_width(ram: ByteSize, bits: u8) -> Result<(), Error> {
    let end = layout::ram_end(ram);
    let room = 1_u64.checked_shl(bits.into()).unwrap_or(u64::MAX);
    if end <= room {
        return Ok(());
    }
    let hole = layout::HOLE_END - layout::HOLE_START;
    Err(Error::TooWide {
        ram,
        end,
        bits,
        most: ByteSize::from_bytes(room.saturating_sub(hole)),
    })
}

#[cfg(test)]
mod tests;
