//! Where guests run: directly on this machine's KVM, or in a lab host, and that on KVM or emulated.

use std::fmt;
use std::fs::{self, OpenOptions};

use super::{Error, Result, probe};

/// The environment variable that decides instead of us.
pub const VARIABLE: &str = "BALLAST_LAB";

/// Where guests run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// On this machine.
    Direct,
    /// In a lab host under this machine's KVM.
    LabKvm,
    /// In a lab host that QEMU emulates.
    LabTcg,
}

/// A place and why it was chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The place.
    pub place: Place,
    /// The reason, for the user.
    pub reason: String,
}

/// What the choice rests on.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The value of [`VARIABLE`].
    pub wish: Option<String>,
    /// Why this machine's KVM is of no use, or nothing if it is.
    pub unusable: Option<String>,
    /// Whether KVM lends virtualisation to guests.
    pub nested: bool,
}

impl Facts {
    /// Looks at this machine. `ready` makes QEMU available, which the probe of a hardware KVM needs.
    pub fn gather(ready: impl FnOnce() -> Result<()>) -> Result<Facts> {
        let nested = ["kvm_amd", "kvm_intel"].iter().any(|module| {
            let path = format!("/sys/module/{module}/parameters/nested");
            fs::read_to_string(path).is_ok_and(|text| matches!(text.trim(), "1" | "Y"))
        });
        let wish = std::env::var(VARIABLE).ok().filter(|wish| !wish.is_empty());
        // The probe costs a moment: it is not made when its result is not asked for.
        let unusable = if wish.is_some() { None } else { unusable(ready)? };
        Ok(Facts {
            wish,
            unusable,
            nested,
        })
    }
}

/// Chooses. Only the demo may run `direct`: the tests need a host that they may change.
pub fn choose(facts: &Facts, direct: bool) -> Result<Choice> {
    let chosen = |place, reason: String| Ok(Choice { place, reason });
    if let Some(wish) = &facts.wish {
        let place = match wish.as_str() {
            "direct" if direct => Place::Direct,
            "direct" => {
                let text = format!("{VARIABLE}=direct is for the demo; this needs a lab host: kvm or tcg");
                return Err(Error::Usage(text));
            }
            "kvm" => Place::LabKvm,
            "tcg" => Place::LabTcg,
            _ => {
                return Err(Error::Usage(format!(
                    "{VARIABLE}={wish}: expected direct, kvm or tcg"
                )));
            }
        };
        return chosen(place, format!("{VARIABLE}={wish}"));
    }
    match &facts.unusable {
        Some(why) => chosen(Place::LabTcg, why.clone()),
        None if direct => chosen(Place::Direct, "the KVM of this machine is usable".into()),
        None if facts.nested => chosen(
            Place::LabKvm,
            "the KVM of this machine is usable and nests".into(),
        ),
        None => chosen(Place::LabTcg, "the KVM of this machine does not nest".into()),
    }
}

/// Why `/dev/kvm` cannot run ordinary guests, if it cannot.
fn unusable(ready: impl FnOnce() -> Result<()>) -> Result<Option<String>> {
    if let Err(error) = OpenOptions::new().read(true).write(true).open("/dev/kvm") {
        return Ok(Some(format!("/dev/kvm does not open: {error}")));
    }
    let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let flags = processor
        .lines()
        .find(|line| line.starts_with("flags"))
        .unwrap_or_default();
    if !flags
        .split_whitespace()
        .any(|flag| flag == "svm" || flag == "vmx")
    {
        return Ok(Some(
            "/dev/kvm opens, but the processor shows neither vmx nor svm: a software KVM".into(),
        ));
    }
    ready()?;
    Ok(probe::run()
        .err()
        .map(|error| format!("a probe guest did not run on /dev/kvm: {error}")))
}

impl fmt::Display for Choice {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = match self.place {
            Place::Direct => "guests run directly on this machine",
            Place::LabKvm => "guests run in a lab host under KVM",
            Place::LabTcg => "guests run in an emulated lab host (TCG)",
        };
        write!(out, "lab: {place}: {}", self.reason)
    }
}

#[cfg(test)]
mod tests;
