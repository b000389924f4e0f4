//! What the host has for guests: nodes, huge pages, and what happens to memory when it gets short. For programs and for people.

use std::fmt::Write;

use memory::host::hugepages::{self, Pool};
use memory::host::meminfo::{self, Meminfo};
use memory::host::pressure::{self, Stall};
use memory::host::{ksm, numa, thp};
use memory::size::ByteSize;
use serde_json::{Map, Value, json};

/// Names in `x-ballast-query-host`, and in the kernel's `meminfo`.
const AMOUNTS: [(&str, &str); 6] = [
    ("total", "MemTotal"),
    ("available", "MemAvailable"),
    ("swap-total", "SwapTotal"),
    ("swap-free", "SwapFree"),
    ("commit-limit", "CommitLimit"),
    ("committed", "Committed_AS"),
];
/// Files in `/sys/kernel/mm/transparent_hugepage`.
const THP: [&str; 3] = ["enabled", "shmem_enabled", "defrag"];

/// `x-ballast-query-host`. What the kernel does not tell is `null`.
pub(super) fn host() -> Value {
    let amounts = meminfo::host();
    let memory: Map<String, Value> = AMOUNTS
        .iter()
        .map(|(name, kernel)| ((*name).to_owned(), bytes(&amounts, kernel)))
        .collect();
    let nodes: Vec<Value> = numa::nodes().iter().map(node).collect();
    let thp: Map<String, Value> = THP
        .iter()
        .map(|file| (file.replace('_', "-"), json!(thp::choice(file))))
        .collect();
    let ksm = ksm::host().map(|host| json!({ "running": host.is_running(), "figures": host.figures }));
    let pressure =
        pressure::memory().map(|now| json!({ "some": stall(&now.some), "full": stall(&now.full) }));
    json!({
        "memory": memory,
        "nodes": nodes,
        "huge-pages": hugepages::pools().iter().map(pool).collect::<Vec<_>>(),
        "thp": thp,
        "ksm": ksm,
        "pressure": pressure,
    })
}

fn bytes(amounts: &Meminfo, name: &str) -> Value {
    json!(amounts.size(name).map(ByteSize::bytes))
}

fn node(node: u32) -> Value {
    let amounts = meminfo::node(node);
    let here = |pool: &Pool| pool.nodes.as_ref().is_some_and(|nodes| nodes.contains(node));
    let pools = hugepages::pools_by_node();
    json!({
        "node": node,
        "cpus": numa::cpu_list(node),
        "total": bytes(&amounts, "MemTotal"),
        "free": bytes(&amounts, "MemFree"),
        "distances": numa::distances(node),
        "huge-pages": pools.iter().filter(|pool| here(pool)).map(pool_of_node).collect::<Vec<_>>(),
    })
}

fn pool(pool: &Pool) -> Value {
    json!({
        "page-size": pool.page.bytes(),
        "total": pool.total,
        "free": pool.free,
        "reserved": pool.reserved,
        "overcommit": pool.growth,
    })
}

/// The kernel reserves for the host and not for a node.
fn pool_of_node(pool: &Pool) -> Value {
    json!({ "page-size": pool.page.bytes(), "total": pool.total, "free": pool.free + pool.reserved })
}

fn stall(stall: &Stall) -> Value {
    let [avg10, avg60, avg300] = stall.average;
    json!({ "avg10": avg10, "avg60": avg60, "avg300": avg300, "total-us": stall.total })
}

/// `info host`.
pub(crate) fn text() -> String {
    let host = host();
    let size = |value: &Value| value.as_u64().map_or_else(|| "?".to_owned(), mebibytes);
    let mut text = String::new();
    let memory = &host["memory"];
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "memory: {} of {} available, swap: {} of {} free, committed: {} (limit {})",
        size(&memory["available"]),
        size(&memory["total"]),
        size(&memory["swap-free"]),
        size(&memory["swap-total"]),
        size(&memory["committed"]),
        size(&memory["commit-limit"]),
    );
    for node in host["nodes"].as_array().into_iter().flatten() {
        let cpus = node["cpus"].as_str().filter(|cpus| !cpus.is_empty());
        let distances = node["distances"].as_array().into_iter().flatten();
        let _ = writeln!(
            text,
            "node {}: cpus {}, {} of {} free, distances {}{}",
            node["node"],
            cpus.unwrap_or("none"),
            size(&node["free"]),
            size(&node["total"]),
            distances.map(Value::to_string).collect::<Vec<_>>().join(" "),
            pools(&node["huge-pages"]),
        );
    }
    let _ = writeln!(text, "host{}", pools(&host["huge-pages"]));
    let word = |value: &Value| value.as_str().unwrap_or("none").to_owned();
    let thp = &host["thp"];
    let _ = writeln!(
        text,
        "transparent huge pages: private {}, shared {}, defrag {}",
        word(&thp["enabled"]),
        word(&thp["shmem-enabled"]),
        word(&thp["defrag"]),
    );
    let ksm = match host["ksm"]["running"].as_bool() {
        None => "not in this kernel",
        Some(true) => "running",
        Some(false) => "stopped",
    };
    let _ = writeln!(text, "ksm: {ksm}");
    if let Some(some) = host["pressure"]["some"]["avg10"].as_f64() {
        let full = host["pressure"]["full"]["avg10"].as_f64().unwrap_or(0.0);
        let _ = writeln!(
            text,
            "memory pressure, last 10 s: some {some:.2} %, full {full:.2} %"
        );
    }
    text
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

/// `, 2 MiB pages: 12 of 16 free`, for each size.
fn pools(pools: &Value) -> String {
    let one = |pool: &Value| {
        let page = ByteSize::from_bytes(pool["page-size"].as_u64().unwrap_or(0));
        let reserved = pool["reserved"].as_u64().filter(|pages| *pages > 0);
        let reserved = reserved.map_or_else(String::new, |pages| format!(", {pages} reserved"));
        format!(
            ", {page} pages: {} of {} free{reserved}",
            pool["free"], pool["total"]
        )
    };
    pools.as_array().into_iter().flatten().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_as_the_kernel_has_it() {
        let host = host();
        let total = std::fs::read_to_string("/proc/meminfo").unwrap();
        let line = total.lines().next().unwrap();
        let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        assert_eq!(host["memory"]["total"], kib << 10, "{line}");
        let nodes = host["nodes"].as_array().unwrap();
        assert_eq!(nodes.len(), numa::nodes().len());
        for (index, node) in nodes.iter().enumerate() {
            assert_eq!(node["distances"][index], 10, "{node}");
        }
        for pool in host["huge-pages"].as_array().unwrap() {
            assert!(pool["total"].as_u64() >= pool["free"].as_u64(), "{pool}");
        }
    }

    #[test]
    fn people_read_one_line_a_node() {
        let text = text();
        assert!(text.starts_with("memory: "), "{text}");
        assert!(!text.contains('?'), "{text}");
        let nodes = text.lines().filter(|line| line.starts_with("node ")).count();
        assert_eq!(nodes, numa::nodes().len());
        assert!(text.lines().any(|line| line.starts_with("ksm: ")), "{text}");
    }

    #[test]
    fn pools_are_told_with_their_figures() {
        let found = json!([
            { "page-size": 2 << 20, "total": 16, "free": 12, "reserved": 4 },
            { "page-size": 1 << 30, "total": 0, "free": 0 },
        ]);
        assert_eq!(
            pools(&found),
            ", 2 MiB pages: 12 of 16 free, 4 reserved, 1 GiB pages: 0 of 0 free"
        );
    }
}
