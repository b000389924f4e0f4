//! What a full ring of scattered pages costs in system calls, counted by strace(1).

use std::fs;
use std::process::Command;

use devices::testing::anonymous_ram;

use super::rig::*;

/// Tells the child how many rings it shall serve.
const RINGS: &str = "BALLAST_TEST_RINGS";
/// Page numbers in a ring: 128 chains of 256.
const PAGES: u64 = 128 * 256;
/// Rings between the two measurements.
const MORE: u64 = 8;

/// At most one system call for 256 scattered pages, of everything that the process does for them.
#[test]
fn a_full_ring_of_scattered_pages_costs_few_system_calls() {
    if let Ok(rings) = std::env::var(RINGS) {
        serve(rings.parse().unwrap());
        return;
    }
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release
        .split(['.', '-'])
        .map_while(|part| part.parse::<u32>().ok());
    if (numbers.next(), numbers.next()) < (Some(6), Some(13)) {
        // One call for many ranges of one's own: Linux 6.13 and newer.
        println!("NOT CHECKED: process_madvise does not free on oneself in Linux {release}");
        return;
    }
    let (few, many) = (calls(1), calls(1 + MORE));
    let per_ring = (many - few) / MORE;
    println!("{per_ring} system calls for {PAGES} scattered pages, on Linux {release}");
    assert!(per_ring >= PAGES / 1024, "they cannot all have been released");
    assert!(per_ring <= PAGES / 256, "{per_ring} calls for {PAGES} pages");
}

/// System calls of a whole run that serves `rings` rings.
fn calls(rings: u64) -> u64 {
    let summary = std::env::temp_dir().join(format!("ballast-strace-{}-{rings}", std::process::id()));
    let output = Command::new("strace")
        .args(["-f", "-c", "-o"])
        .arg(&summary)
        .arg(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "syscalls::a_full_ring_of_scattered_pages_costs_few_system_calls",
        ])
        .env(RINGS, rings.to_string())
        .output()
        .unwrap_or_else(|error| panic!("strace is needed, cargo lab test says how to have it: {error}"));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
    let text = fs::read_to_string(&summary).unwrap();
    fs::remove_file(summary).unwrap();
    // "100.00    0.001234           8       142         3 total"
    let total = text.lines().find(|line| line.trim_end().ends_with("total"));
    let calls = total.and_then(|line| line.split_whitespace().nth(3));
    calls
        .unwrap_or_else(|| panic!("no total in {text}"))
        .parse()
        .unwrap()
}

/// Every second page of 256 MiB, in 128 chains and one kick, again and again. Nothing here makes system calls of its own.
fn serve(rings: u64) {
    let ram = anonymous_ram(2 + 256 + 1);
    let mut rig = Rig::new(&ram, 0);
    for index in 0..128_u16 {
        let first = FIRST + 512 * u32::from(index);
        let pfns: Vec<u32> = (0..256).map(|page| first + 2 * page).collect();
        let at = PFNS + 1024 * u64::from(index);
        rig.queues[INFLATE].describe_pfns(index, at, &pfns);
    }
    for _ in 0..rings {
        (0..128).for_each(|index| rig.queues[INFLATE].offer(index));
        rig.driver().notify(0);
        while rig.queues[INFLATE].used_index() != rig.queues[INFLATE].available {
            std::hint::spin_loop();
        }
    }
    assert_eq!(rig.handle.counters().discarded, rings * PAGES * PAGE);
}
