//! `-smp` and `-name`.

use super::keyval;
use super::properties::{NAME, SMP};
use super::value::ValueError;
use crate::topology::Topology;

/// `-smp [cpus=]N,sockets=N,cores=N,threads=N,maxcpus=N`. What is not given follows from the rest, as with QEMU since 6.2: one socket,
/// one thread a core, then as many cores as there are to be.
pub fn smp(text: &str) -> Result<Topology, ValueError> {
    let properties = SMP.accept(keyval::split(text, Some("cpus"))?)?;
    let count = |name: &'static str| match properties.text(name) {
        None => Ok(None),
        Some(text) => (text.parse::<u8>().ok().filter(|count| *count > 0).map(Some))
            .ok_or_else(|| properties.wrong(name, "a number from 1 to 254")),
    };
    let (cpus, most) = (count("cpus")?, count("maxcpus")?);
    let (sockets, cores, threads) = (count("sockets")?, count("cores")?, count("threads")?);
    if text.is_empty() {
        properties.required("cpus")?;
    }
    let left = |one: u8, other: u8| {
        most.or(cpus)
            .map(|all| u16::from(all) / (u16::from(one) * u16::from(other)))
    };
    // Of what is left, cores are made before sockets, and sockets before threads.
    let shape = match (sockets, cores, threads) {
        (sockets, None, threads) => {
            let (sockets, threads) = (sockets.unwrap_or(1), threads.unwrap_or(1));
            [
                sockets.into(),
                left(sockets, threads).unwrap_or(1),
                threads.into(),
            ]
        }
        (None, Some(cores), threads) => {
            let threads = threads.unwrap_or(1);
            [left(cores, threads).unwrap_or(1), cores.into(), threads.into()]
        }
        (Some(sockets), Some(cores), None) => {
            [sockets.into(), cores.into(), left(sockets, cores).unwrap_or(1)]
        }
        (Some(sockets), Some(cores), Some(threads)) => [sockets.into(), cores.into(), threads.into()],
    };
    let product: u32 = shape.iter().copied().map(u32::from).product();
    let (name, places) = match (most, cpus) {
        (Some(most), _) => ("maxcpus", Some(most)),
        (None, cpus) => ("cpus", cpus),
    };
    if places.is_some_and(|places| u32::from(places) != product) {
        let [sockets, cores, threads] = shape;
        let expected = format!(
            "sockets= times cores= times threads=, which is {sockets} times {cores} times {threads}; maxcpus= says that only some of \
             these have a vCPU"
        );
        return Err(properties.wrong(name, &expected));
    }
    let [sockets, cores, threads] = shape.map(u8::try_from);
    let topology = sockets.ok().zip(cores.ok()).zip(threads.ok());
    let topology = topology
        .and_then(|((sockets, cores), threads)| Topology::new(sockets, cores, threads))
        .ok_or(ValueError::Conflict(
            "these vCPUs need APIC ids above 254 (sockets, and cores with threads, take a power of two each), which xAPICs do not \
             have; or they are more than 254; use fewer",
        ))?;
    match cpus {
        None => Ok(topology),
        Some(cpus) => topology
            .with_vcpus(cpus)
            .ok_or_else(|| properties.wrong("cpus", &format!("no more than there are CPUs, {product}"))),
    }
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
        assert_eq!(smp("4"), Ok(Topology::new(1, 4, 1).unwrap()));
        assert_eq!(smp("cpus=254"), Ok(Topology::new(1, 254, 1).unwrap()));
        for wrong in [
            "0",
            "255",
            "-1",
            "4x",
            "",
            "4,sockets=0",
            "4,threads=3",
            "4,maxcpus=3",
            "4,maxcpus=255",
        ] {
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
        let two_of_two = Topology::new(2, 2, 1).unwrap();
        for text in [
            "4,sockets=2",
            "4,cores=2",
            "sockets=2,cores=2",
            "4,sockets=2,cores=2,threads=1,maxcpus=4",
        ] {
            assert_eq!(smp(text), Ok(two_of_two), "{text}");
        }
        assert_eq!(smp("sockets=3"), Ok(Topology::new(3, 1, 1).unwrap()));
        for (text, part) in [
            (
                "5,sockets=2",
                "sockets= times cores= times threads=, which is 2 times 2 times 1",
            ),
            ("2,sockets=4", "4 times 0 times 1"),
            ("2,sockets=2,cores=2,threads=2", "cpus=2: expected sockets="),
            ("4,maxcpus=2", "cpus=4: expected no more than there are CPUs, 2"),
            ("2,maxcpus=5,cores=2", "maxcpus=5: expected sockets="),
            ("cores=200,sockets=200", "APIC ids above 254"),
            ("cores=250,sockets=250,threads=250", "APIC ids above 254"),
        ] {
            let error = smp(text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    /// As QEMU 6.2 and later make it.
    #[test]
    fn fills_in_what_is_left() {
        for (text, sockets, cores, threads) in [
            ("8,threads=2", 1, 4, 2),
            ("8,sockets=2,threads=2", 2, 2, 2),
            ("8,cores=2,threads=2", 2, 2, 2),
            ("8,sockets=2,cores=2", 2, 2, 2),
            ("threads=2", 1, 1, 2),
            ("cores=4,threads=2", 1, 4, 2),
            ("16,sockets=2,cores=4,threads=2,maxcpus=16", 2, 4, 2),
        ] {
            assert_eq!(
                smp(text),
                Ok(Topology::new(sockets, cores, threads).unwrap()),
                "{text}"
            );
        }
        let half = Topology::new(2, 2, 1).unwrap().with_vcpus(2).unwrap();
        assert_eq!(smp("2,maxcpus=4,sockets=2"), Ok(half));
        assert_eq!(smp("2,sockets=2,cores=2,maxcpus=4"), Ok(half));
        assert_eq!(
            smp("maxcpus=4,sockets=2"),
            Topology::new(2, 2, 1).ok_or(ValueError::EmptyName)
        );
    }

    #[test]
    fn reads_names() {
        assert_eq!(name("web,debug-threads=on"), Ok("web".to_owned()));
        assert_eq!(name("guest=a,,b"), Ok("a,b".to_owned()));
        name("debug-threads=on").unwrap_err();
    }
}
