//! vCPUs run on the CPUs of the host that they were given, and nowhere else.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tests::harness::group::Group;
use tests::harness::vm::{Launch, Vm};
use tests::harness::{Error, Result};

const PIN: &str = "x-ballast-pin-vcpus";
/// How long Ballast may take to end.
const END: Duration = Duration::from_secs(10);

/// The CPUs that each thread of a vCPU may use, by the thread's name, as the kernel tells; and the first thread's.
fn affinities(vm: &Vm) -> Result<BTreeMap<String, String>> {
    let tasks = format!("/proc/{}/task", vm.pid());
    let tasks = Path::new(&tasks);
    let read = |path: &Path| fs::read_to_string(path).map_err(Error::file("read", path));
    let mut found = BTreeMap::new();
    for task in fs::read_dir(tasks).map_err(Error::file("list", tasks))? {
        let path = task.map_err(Error::file("list", tasks))?.path().join("status");
        let status = read(&path)?;
        let field = |name: &str| {
            let value = status.lines().find_map(|line| line.strip_prefix(name));
            value.unwrap_or_default().trim().to_owned()
        };
        found.insert(field("Name:"), field("Cpus_allowed_list:"));
    }
    found.retain(|name, _| name == "ballast" || name.ends_with("/KVM"));
    Ok(found)
}

fn expected(vcpus: [&str; 3]) -> BTreeMap<String, String> {
    let pairs = (0..)
        .zip(vcpus)
        .map(|(vcpu, cpus)| (format!("CPU {vcpu}/KVM"), cpus));
    pairs
        .chain([("ballast".to_owned(), "0-1")])
        .map(|(name, cpus)| (name, cpus.to_owned()))
        .collect()
}

#[test]
#[ignore = "needs the lab: cargo lab test"]
fn vcpus_run_where_they_are_pinned() -> Result<()> {
    let mut vm = Launch::tiny()
        .line("-m 256 -smp 3")
        .line("-object memory-backend-ram,id=m0,size=128M -object memory-backend-ram,id=m1,size=128M")
        .line("-numa node,cpus=0,cpus=2,memdev=m0,host-cpus=1 -numa node,cpus=1,memdev=m1,host-cpus=0")
        .qmp()
        .start()?;
    let mut agent = vm.boot()?;
    assert_eq!(affinities(&vm)?, expected(["1", "0", "1"]));
    let mut qmp = vm.qmp()?;
    qmp.command(PIN, json!({ "vcpus": [2, 0], "host-cpus": [0, 1] }))?;
    assert_eq!(affinities(&vm)?, expected(["0-1", "0", "0-1"]));
    let told = qmp.command("query-cpus-fast", Value::Null)?;
    for (vcpu, cpus) in [json!([0, 1]), json!([0]), json!([0, 1])].iter().enumerate() {
        assert_eq!(told[vcpu]["x-ballast-host-cpus"], *cpus, "{told}");
    }
    let refused = qmp.command(PIN, json!({ "host-cpus": [1, 2] }));
    let reason = "cannot run vCPU 0 on host CPU 2: this machine has only CPUs 0-1; choose among them";
    assert!(
        matches!(&refused, Err(Error::Qmp { text, .. }) if text == reason),
        "{refused:?}"
    );
    assert_eq!(affinities(&vm)?, expected(["0-1", "0", "0-1"]));
    qmp.command(PIN, json!({ "host-cpus": [1] }))?;
    assert_eq!(affinities(&vm)?, expected(["1", "1", "1"]));
    agent.power_off()?;
    assert!(vm.wait(END)?.success(), "{}", vm.errors.text());
    Ok(())
}

#[test]
#[ignore = "needs the lab: cargo lab test"]
fn a_cpu_that_the_group_lacks_is_named() -> Result<()> {
    let group = Group::new("cpuset")?;
    group.set("cpuset.cpus", "0")?;
    let mut vm = Launch::tiny()
        .line("-smp 2 -numa node,host-cpus=0-1")
        .under(&group.enter())
        .start()?;
    let status = vm.wait(END)?;
    let text = format!(
        "ballast: cannot run vCPU 0 on host CPU 1: the cpuset of the control group has only CPUs 0 ({}); \
         choose among them, or give the group more\n",
        group.file("cpuset.cpus.effective").display()
    );
    assert_eq!(vm.errors.text(), text);
    assert_eq!(status.code(), Some(1));
    Ok(())
}
