//! `-smp` and `-name`.

use super::keyval;
use super::properties::{NAME, SMP};
use super::value::ValueError;

/// xAPIC ids are 8 bits, and 0xff is the broadcast.
const MAX_VCPUS: u8 = 254;

/// `-smp [cpus=]N`.
pub fn vcpus(text: &str) -> Result<u8, ValueError> {
    let properties = SMP.accept(keyval::split(text, Some("cpus"))?)?;
    let count = properties
        .required("cpus")?
        .parse::<u8>()
        .ok()
        .filter(|count| (1..=MAX_VCPUS).contains(count));
    count.ok_or_else(|| properties.wrong("cpus", "a number from 1 to 254"))
}

/// `-name [guest=]NAME`.
pub fn name(text: &str) -> Result<String, ValueError> {
    let properties = NAME.accept(keyval::split(text, Some("guest"))?)?;
    properties.switch("debug-threads")?;
    properties.required("guest").map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_vcpus() {
        assert_eq!(vcpus("4"), Ok(4));
        assert_eq!(vcpus("cpus=254"), Ok(254));
        for wrong in ["0", "255", "-1", "4x", ""] {
            vcpus(wrong).unwrap_err();
        }
        let error = vcpus("4,sockets=2").unwrap_err().to_string();
        assert_eq!(error, "-smp has no property 'sockets'; it has: cpus");
    }

    #[test]
    fn reads_names() {
        assert_eq!(name("web,debug-threads=on"), Ok("web".to_owned()));
        assert_eq!(name("guest=a,,b"), Ok("a,b".to_owned()));
        name("debug-threads=on").unwrap_err();
    }
}
