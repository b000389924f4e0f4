//! The guest has the processors that it was given: sockets, cores, threads.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use tests::harness::agent::Agent;
use tests::harness::vm::{Launch, Vm};
use tests::harness::{Error, Result, complaints};

/// How long Ballast may take to end.
const END: Duration = Duration::from_secs(30);

/// Each CPU as the guest's kernel shows it: package, core, the CPUs of its core, those of its package, its node.
const CPUS: &str = "cd /sys/devices/system/cpu && for N in $(seq 0 15); do cd cpu$N/topology 2>/dev/null || break; \
                    echo $(cat physical_package_id core_id thread_siblings_list core_siblings_list) $(ls -d ../node*); cd ../..; done";

/// What the processor of the lab host has, and the second guest has not.
const FEATURES: [&str; 3] = ["rdrand", "movbe", "bmi2"];

/// Which of them the guest's kernel finds.
fn features<W: Write>(agent: &mut Agent<W>) -> Result<Vec<&'static str>> {
    let line = agent.exec("grep -m 1 ^flags /proc/cpuinfo")?;
    let has = |name: &&str| line.split_whitespace().any(|word| word == *name);
    Ok(FEATURES.into_iter().filter(has).collect())
}

/// The names of Ballast's threads that run vCPUs.
fn vcpu_threads(vm: &Vm) -> Result<BTreeSet<String>> {
    let tasks = format!("/proc/{}/task", vm.pid());
    let tasks = Path::new(&tasks);
    let mut names = BTreeSet::new();
    for task in std::fs::read_dir(tasks).map_err(Error::file("list", tasks))? {
        let path = task.map_err(Error::file("list", tasks))?.path().join("comm");
        let name = std::fs::read_to_string(&path).map_err(Error::file("read", &path))?;
        names.insert(name.trim_end().to_owned());
    }
    names.retain(|name| name.ends_with("/KVM"));
    Ok(names)
}

/// Two sockets of four cores of two threads, each socket a node.
#[test]
#[ignore = "needs the lab: cargo lab test"]
fn long_processors_are_sockets_cores_and_threads() -> Result<()> {
    let mut vm = Launch::stock()
        .line("-m 512 -smp 16,sockets=2,cores=4,threads=2")
        .line("-object memory-backend-ram,id=m0,size=256M -object memory-backend-ram,id=m1,size=256M")
        .line("-numa node,cpus=0-7,memdev=m0 -numa node,memdev=m1 -numa cpu,node-id=1,socket-id=1")
        .start()?;
    let mut agent = vm.boot()?;
    let shown = agent.exec(CPUS)?;
    let shown: Vec<_> = shown.lines().map(str::trim).collect();
    let expected = (0..16).map(|cpu| {
        let (package, core, first) = (cpu / 8, cpu % 8 / 2, cpu / 2 * 2);
        let (from, to) = (package * 8, package * 8 + 7);
        format!(
            "{package} {core} {first}-{} {from}-{to} ../node{package}",
            first + 1
        )
    });
    assert_eq!(shown, expected.collect::<Vec<_>>());
    let complaints = complaints::of(&mut agent)?;
    assert!(complaints.is_empty(), "{complaints:#?}");
    assert_eq!(features(&mut agent)?, FEATURES);
    let names: BTreeSet<_> = (0..16).map(|cpu| format!("CPU {cpu}/KVM")).collect();
    assert_eq!(vcpu_threads(&vm)?, names);
    let warning = "ballast: warning: the guest has 16 vCPUs, but KVM recommends no more than 2 on this host";
    assert!(vm.errors.text().contains(warning), "{}", vm.errors.text());
    agent.power_off()?;
    assert!(vm.wait(END)?.success(), "{}", vm.errors.text());
    Ok(())
}

/// Three vCPUs in eight places, without some features.
#[test]
#[ignore = "needs the lab: cargo lab test"]
fn processors_are_fewer_than_places_and_have_fewer_features() -> Result<()> {
    let mut vm = Launch::stock()
        .line("-m 256 -smp 3,sockets=2,cores=2,threads=2,maxcpus=8 -cpu host,-rdrand,bmi2=off,-movbe,+sse4_1")
        .start()?;
    let mut agent = vm.boot()?;
    let shown = agent.exec("cd /sys/devices/system/cpu && cat possible present online")?;
    assert_eq!(
        shown.split_whitespace().collect::<Vec<_>>(),
        ["0-7", "0-2", "0-2"]
    );
    // Siblings are those that are there.
    let shown = agent.exec(CPUS)?;
    let shown: Vec<_> = shown.lines().map(str::trim).collect();
    let node = "../node0";
    assert_eq!(
        shown,
        [
            format!("0 0 0-1 0-2 {node}"),
            format!("0 0 0-1 0-2 {node}"),
            format!("0 1 2 0-2 {node}")
        ]
    );
    assert!(features(&mut agent)?.is_empty());
    let complaints = complaints::of(&mut agent)?;
    assert!(complaints.is_empty(), "{complaints:#?}");
    agent.power_off()?;
    assert!(vm.wait(END)?.success(), "{}", vm.errors.text());
    Ok(())
}

/// No processor with AMD's or Intel's virtualisation has VIA's encryption.
#[test]
#[ignore = "needs the lab: cargo lab test"]
fn processors_do_not_start_without_a_feature() -> Result<()> {
    let mut vm = Launch::tiny().line("-cpu host,+sse2,+ace2").start()?;
    assert_eq!(vm.wait(END)?.code(), Some(1));
    let errors = vm.errors.text();
    assert!(errors.contains("this KVM lacks ace2;"), "{errors}");
    Ok(())
}
