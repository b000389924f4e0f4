//! `-smp` and `-name`.

use super::keyval;
use super::properties::{NAME, SMP};
use super::value::ValueError;
use crate::topology::Topology;

/// `-smp [cpus=]N,sockets=N,cores=N,threads=1,maxcpus=N`. What is not given follows from the rest: one socket, then as many cores as the
/// vCPUs need.
pub fn smp(text: &str) -> Result<Topology, ValueError> {
    let properties = SMP.accept(keyval::split(text, Some("cpus"))?)?;
    properties.only("threads", &["1"])?;
    let count = |name: &'static str| match properties.text(name) {
        None => Ok(None),
        Some(text) => (text.parse::<u8>().ok().filter(|count| *count > 0).map(Some))
            .ok_or_else(|| properties.wrong(name, "a number from 1 to 254")),
    };
    let (cpus, sockets, cores) = (count("cpus")?, count("sockets")?, count("cores")?);
    if text.is_empty() {
        properties.required("cpus")?;
    }
    let sockets = match (cpus, sockets, cores) {
        (_, Some(sockets), _) => sockets,
        (Some(cpus), None, Some(cores)) => cpus / cores,
        (_, None, _) => 1,
    };
    let cores = match (cpus, cores) {
        (_, Some(cores)) => cores,
        (Some(cpus), None) => cpus / sockets,
        (None, None) => 1,
    };
    let product = u16::from(sockets) * u16::from(cores);
    if count("maxcpus")?.is_some_and(|most| u16::from(most) != product) {
        let expected = format!("{product}, as many as there are: none is plugged in later");
        return Err(properties.wrong("maxcpus", &expected));
    }
    if let Some(cpus) = cpus
        && u16::from(cpus) != product
    {
        let expected = format!("sockets= times cores=, which is {sockets} times {cores}");
        return Err(properties.wrong("cpus", &expected));
    }
    Topology::new(sockets, cores).ok_or(ValueError::Conflict(
        "-smp: these vCPUs need APIC ids above 253 (sockets take a power of two each); use fewer",
    ))
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
        assert_eq!(smp("4"), Ok(Topology::new(1, 4).unwrap()));
        assert_eq!(smp("cpus=254"), Ok(Topology::new(1, 254).unwrap()));
        for wrong in ["0", "255", "-1", "4x", "", "4,sockets=0", "4,threads=2"] {
            smp(wrong).unwrap_err();
        }
        let error = smp("4,dies=2").unwrap_err().to_string();
        assert_eq!(
            error,
            "-smp has no property 'dies'; it has: cpus, sockets, cores, threads, maxcpus"
        );
    }

    #[test]
    fn arranges_vcpus() {
        let two_of_two = Topology::new(2, 2).unwrap();
        for text in [
            "4,sockets=2",
            "4,cores=2",
            "sockets=2,cores=2",
            "4,sockets=2,cores=2,threads=1,maxcpus=4",
        ] {
            assert_eq!(smp(text), Ok(two_of_two), "{text}");
        }
        assert_eq!(smp("sockets=3"), Ok(Topology::new(3, 1).unwrap()));
        for (text, part) in [
            ("5,sockets=2", "sockets= times cores=, which is 2 times 2"),
            ("2,sockets=4", "4 times 0"),
            ("2,maxcpus=4", "maxcpus=4: expected 2, as many as there are"),
            ("cores=200,sockets=200", "APIC ids above 253"),
        ] {
            let error = smp(text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn reads_names() {
        assert_eq!(name("web,debug-threads=on"), Ok("web".to_owned()));
        assert_eq!(name("guest=a,,b"), Ok("a,b".to_owned()));
        name("debug-threads=on").unwrap_err();
    }
}
