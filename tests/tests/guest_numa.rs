//! The guest has the nodes that it was given: vCPUs, memory, distances.

use std::time::Duration;

use tests::harness::Result;
use tests::harness::backing::HUGE_PAGE;
use tests::harness::hugepages::{ALL_2M, Pool};
use tests::harness::maps::{self, Mapping};
use tests::harness::vm::Launch;

/// How long Ballast may take to end.
const END: Duration = Duration::from_secs(10);
const GIB: u64 = 1 << 30;

/// One node as the guest's kernel shows it.
const SHOW: &str = "cd /sys/devices/system/node/node$N && echo $N: $(cat cpulist), $(cat distance), \
                    $(($(ls -d memory[0-9]* 2>/dev/null | wc -l) * 0x$(cat ../../memory/block_size_bytes) >> 20))";

/// Each vCPU as the guest's kernel shows it: package, core, its threads, the vCPUs of its package.
const CPUS: &str = "cd /sys/devices/system/cpu && for N in 0 1 2 3; do cd cpu$N/topology && \
                    echo $(cat physical_package_id core_id thread_siblings_list core_siblings_list); cd ../..; done";

/// Node 0 has memory and vCPUs of a socket, node 1 memory across the hole in huge pages, node 2 memory only, node 3 a vCPU only.
#[test]
#[ignore = "needs the lab: cargo lab test"]
fn the_guest_finds_its_nodes() -> Result<()> {
    let _pool = ALL_2M.set(2 * GIB / HUGE_PAGE)?;
    let launch = Launch::stock()
        .args(["-m", "4608", "-smp", "4,sockets=2"])
        .args(["-object", "memory-backend-ram,id=m0,size=2G"])
        .args(["-object", "memory-backend-memfd,id=m1,size=2G,hugetlb=on"])
        .args([
            "-object",
            "memory-backend-memfd,id=m2,size=512M,host-nodes=1,policy=preferred",
        ])
        .args(["-numa", "node,nodeid=0,cpus=0-1,memdev=m0"])
        .args(["-numa", "node,nodeid=1,memdev=m1"])
        .args(["-numa", "node,nodeid=2,memdev=m2"])
        .args([
            "-numa",
            "node,nodeid=3",
            "-numa",
            "cpu,node-id=3,socket-id=1,core-id=1",
        ])
        .args(["-numa", "cpu,node-id=1,socket-id=1,core-id=0"])
        .args([
            "-numa",
            "dist,src=0,dst=1,val=21",
            "-numa",
            "dist,src=1,dst=0,val=31",
        ])
        .args([
            "-numa",
            "dist,src=0,dst=2,val=40",
            "-numa",
            "dist,src=1,dst=2,val=50",
        ])
        .args([
            "-numa",
            "dist,src=0,dst=3,val=60",
            "-numa",
            "dist,src=1,dst=3,val=70",
        ])
        .args(["-numa", "dist,src=2,dst=3,val=80"])
        .qmp();
    let mut vm = launch.start()?;
    let mut agent = vm.boot()?;
    assert_eq!(agent.exec("cat /sys/devices/system/node/online")?.trim(), "0-3");
    let expected = [
        "0: 0-1, 10 21 40 60, 2048",
        "1: 2, 31 10 50 70, 2048",
        "2: , 40 50 10 80, 512",
        "3: 3, 60 70 80 10, 0",
    ];
    for (node, expected) in expected.iter().enumerate() {
        let line = agent.exec(&format!("N={node}; {SHOW}"))?;
        assert_eq!(line.trim(), *expected);
    }
    check_numactl(
        &agent.exec("numactl --hardware")?,
        &agent.exec("cat /proc/meminfo")?,
    );
    // The second socket lies in two nodes.
    let vcpus = agent.exec(CPUS)?;
    let vcpus: Vec<_> = vcpus.lines().map(str::trim).collect();
    assert_eq!(vcpus, ["0 0 0 0-1", "0 1 1 0-1", "1 0 2 2-3", "1 1 3 2-3"]);
    let complaints = agent
        .exec("dmesg | grep -iE 'not on the same node|srat.*(fail|bad)|firmware bug|WARNING' || true")?;
    assert_eq!(complaints.trim(), "");
    let pages = |mapping: &Mapping| (mapping.size(), mapping.field("KernelPageSize"));
    let mut found: Vec<_> = vm.memory()?.iter().map(pages).collect();
    found.sort_unstable();
    assert_eq!(found, [(GIB / 2, 4096), (2 * GIB, 4096), (2 * GIB, HUGE_PAGE)]);
    for mapping in vm.memory()?.iter().filter(|mapping| mapping.size() == GIB / 2) {
        let line = maps::numa_line(vm.pid(), mapping)?;
        assert!(line.contains(" prefer:1 "), "{line}");
    }
    agent.power_off()?;
    assert!(vm.wait(END)?.success(), "{}", vm.errors.text());
    Ok(())
}

/// What the users' tool prints: nodes, vCPUs and distances as they were asked for, and as sizes what the guest's kernel left of
/// what was asked for: it keeps some for itself before it counts.
fn check_numactl(text: &str, meminfo: &str) {
    let lines: Vec<_> = text.lines().map(str::trim_end).collect();
    let size = |node: u64| {
        let start = format!("node {node} size: ");
        let line = lines
            .iter()
            .find_map(|line| line.strip_prefix(&start))
            .unwrap_or_default();
        let size = line.strip_suffix(" MB").and_then(|size| size.parse::<u64>().ok());
        size.unwrap_or_else(|| panic!("no size of node {node} in {text}"))
    };
    let sizes = [size(0), size(1), size(2), size(3)];
    let others = |line: &&str| !line.contains(" size: ") && !line.contains(" free: ");
    let shown: Vec<_> = lines.iter().copied().filter(others).collect();
    let expected = [
        "available: 4 nodes (0-3)",
        "node 0 cpus: 0 1",
        "node 1 cpus: 2",
        "node 2 cpus:",
        "node 3 cpus: 3",
        "node distances:",
        "node   0   1   2   3",
        "  0:  10  21  40  60",
        "  1:  31  10  50  70",
        "  2:  40  50  10  80",
        "  3:  60  70  80  10",
    ];
    assert_eq!(shown, expected, "{text}");
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let total = total.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    let sum: u64 = sizes.iter().sum();
    // Each size is cut to whole MB.
    assert!(
        (sum..sum + 4).contains(&(total.unwrap_or(0) >> 10)),
        "{sizes:?} of {total:?} kB"
    );
    for (size, asked) in sizes.into_iter().zip([2048, 2048, 512, 0]) {
        assert!(size <= asked && size * 100 >= asked * 90, "{sizes:?}");
    }
}

/// The largest pages around the hole: one below, one above.
#[test]
#[ignore = "needs the lab: cargo lab test"]
fn a_node_across_the_hole_keeps_pages_of_1_gib() -> Result<()> {
    let vm = Launch::tiny()
        .args(["-S", "-object", "memory-backend-ram,id=m0,size=2G"])
        .args([
            "-object",
            "memory-backend-memfd,id=m1,size=2G,hugetlb=on,hugetlbsize=1G",
        ])
        .args(["-numa", "node,cpus=0,memdev=m0", "-numa", "node,memdev=m1"])
        .qmp()
        .start()?;
    vm.qmp()?;
    let mut pages: Vec<_> = (vm.memory()?.iter())
        .map(|mapping| (mapping.size(), mapping.field("KernelPageSize")))
        .collect();
    pages.sort_unstable();
    assert_eq!(pages, [(2 * GIB, 4096), (2 * GIB, GIB)]);
    Ok(())
}

/// A node of huge pages cannot begin in the middle of one.
#[test]
#[ignore = "needs the lab: cargo lab test"]
fn a_node_inside_a_huge_page_is_refused() -> Result<()> {
    let _pool = Pool::node_2m(0).set(64)?;
    let mut vm = Launch::tiny()
        .args(["-object", "memory-backend-ram,id=m0,size=65M"])
        .args(["-object", "memory-backend-memfd,id=m1,size=128M,hugetlb=on"])
        .args(["-numa", "node,cpus=0,memdev=m0", "-numa", "node,memdev=m1"])
        .start()?;
    assert_eq!(vm.wait(END)?.code(), Some(1));
    let errors = vm.errors.text();
    assert!(
        errors.contains(&format!(
            "pages of 2 MiB would start at guest address {:#x}",
            65 << 20
        )),
        "{errors}"
    );
    assert_eq!(Pool::node_2m(0).pages()?.free, 64);
    Ok(())
}
