//! The guest's statistics.

use std::io::Write;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::harness::agent::Agent;
use tests::harness::qmp::Qmp;
use tests::harness::vm::{Launch, eventually};
use tests::harness::{Error, Result, balloon};

use super::{MEBIBYTE, PATIENCE, get, query, set};

const RAM: u64 = 192;
/// The first target, and the one that replaces it before there is a driver.
const INITIAL: u64 = 176;
const TARGET: u64 = 160;
const FLOOR: u64 = 64;
/// How far a figure of the guest may be from one that was read a moment later.
const NEAR: u64 = 16 * MEBIBYTE;
/// How long the guest has to answer a read: two emulators run one in another here.
const SOON: Duration = Duration::from_millis(500);
const INTERVAL: &str = "guest-stats-polling-interval";
/// What QEMU shows for what the guest did not tell.
const UNKNOWN: u64 = u64::MAX;

#[test]
#[ignore = "needs the lab: cargo lab test"]
fn statistics_arrive_when_read_and_by_the_clock() -> Result<()> {
    let device = format!("virtio-balloon-pci,id=balloon0,initial={INITIAL}M,min={FLOOR}M");
    let mut vm = Launch::tiny()
        .args(["-m", &RAM.to_string(), "-device", &device, "-S"])
        .qmp()
        .start()?;
    let mut qmp = vm.qmp()?;
    nobody_has_told_anything(&mut qmp)?;
    // A target without a driver is kept, and is what the guest finds.
    balloon::ask(&mut qmp, TARGET * MEBIBYTE)?;
    qmp.command("cont", Value::Null)?;
    let mut agent = vm.boot()?;
    balloon::wait(&mut qmp, TARGET * MEBIBYTE, PATIENCE)?;
    assert_eq!(query(&mut qmp)?["state"], "converged");
    targets_have_a_floor(&mut qmp)?;
    figures_are_the_guests(&mut qmp, &mut agent)?;
    the_clock_asks_by_itself(&mut qmp)?;
    people_are_shown_the_same(&mut qmp)?;
    super::flood::control_answers(&mut vm, &mut qmp, &mut agent)
}

fn nobody_has_told_anything(qmp: &mut Qmp) -> Result<()> {
    let value = get(qmp, "guest-stats")?;
    assert_eq!(value["last-update"], 0);
    let stats = value["stats"].as_object().cloned().unwrap_or_default();
    assert_eq!(stats.len(), 16, "{value}");
    assert!(stats.values().all(|value| *value == UNKNOWN), "{value}");
    let report = query(qmp)?;
    assert_eq!(
        (&report["state"], &report["target"]),
        (&json!("no-driver"), &json!(INITIAL * MEBIBYTE))
    );
    Ok(())
}

fn targets_have_a_floor(qmp: &mut Qmp) -> Result<()> {
    let Err(Error::Qmp { text, .. }) = balloon::ask(qmp, FLOOR * MEBIBYTE - 1) else {
        panic!("a target below the floor was taken")
    };
    assert!(text.contains(&format!("{FLOOR} MiB")), "{text}");
    assert_eq!(query(qmp)?["target"], TARGET * MEBIBYTE);
    Ok(())
}

/// All sixteen, fresh, and such as the guest itself shows them.
fn figures_are_the_guests<W: Write>(qmp: &mut Qmp, agent: &mut Agent<W>) -> Result<()> {
    // Huge pages of the guest, so that there is something to count.
    agent.exec("echo 2 > /proc/sys/vm/nr_hugepages; cat /proc/*/maps > /dev/null")?;
    assert!(
        eventually(PATIENCE, || {
            get(qmp, "guest-stats")?;
            let age = query(qmp)?["stats"]["age-ms"].as_u64();
            Ok(age.is_some_and(|age| Duration::from_millis(age) < SOON))
        })?,
        "reads do not make the guest tell anything"
    );
    let value = get(qmp, "guest-stats")?;
    let stats = &value["stats"];
    let meminfo = agent.exec("cat /proc/meminfo")?;
    let vmstat = agent.exec("cat /proc/vmstat")?;
    let stat = |name: &str| {
        let figure = stats[name].as_u64().filter(|figure| *figure != UNKNOWN);
        figure.unwrap_or_else(|| panic!("no {name} in {value}"))
    };
    let shown = |text: &str, name: &str| -> u64 {
        let line = text.lines().find(|line| line.starts_with(name));
        let figure = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
        figure.unwrap_or_else(|| panic!("no {name} in {text}"))
    };
    let near = |name: &str, bytes: u64| {
        let figure = stat(name);
        assert!(figure.abs_diff(bytes) < NEAR, "{name}: {figure}, not {bytes}");
    };
    assert_eq!(stat("stat-total-memory"), shown(&meminfo, "MemTotal:") << 10);
    near("stat-free-memory", shown(&meminfo, "MemFree:") << 10);
    near("stat-available-memory", shown(&meminfo, "MemAvailable:") << 10);
    near("stat-disk-caches", shown(&meminfo, "Cached:") << 10);
    for (name, counter) in [
        ("stat-minor-faults", "pgfault "),
        ("stat-major-faults", "pgmajfault "),
        ("stat-swap-in", "pswpin "),
        ("stat-swap-out", "pswpout "),
        ("stat-htlb-pgalloc", "htlb_buddy_alloc_success "),
        ("stat-htlb-pgfail", "htlb_buddy_alloc_fail "),
        ("stat-oom-kills", "oom_kill "),
        ("stat-async-scans", "pgscan_kswapd "),
        ("stat-direct-scans", "pgscan_direct "),
        ("stat-async-reclaims", "pgsteal_kswapd "),
        ("stat-direct-reclaims", "pgsteal_direct "),
    ] {
        let (told, now) = (stat(name), shown(&vmstat, counter));
        assert!(told <= now, "{name}: {told}, but {counter}{now}");
    }
    stat("stat-alloc-stalls");
    assert!(
        stat("stat-minor-faults") > 0 && stat("stat-htlb-pgalloc") >= 2,
        "{value}"
    );
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    let told = value["last-update"].as_u64().unwrap_or(0);
    assert!(told <= now.as_secs() && told + 60 > now.as_secs(), "{value}");
    agent.exec("echo 0 > /proc/sys/vm/nr_hugepages").map(drop)
}

fn the_clock_asks_by_itself(qmp: &mut Qmp) -> Result<()> {
    assert_eq!(get(qmp, INTERVAL)?, 0);
    set(qmp, INTERVAL, &json!(1))?;
    assert_eq!(get(qmp, INTERVAL)?, 1);
    // This command does not ask the guest.
    let last = |qmp: &mut Qmp| Ok::<_, Error>(query(qmp)?["stats"]["last-update"].as_u64());
    for _ in 0..2 {
        let before = last(qmp)?;
        assert!(
            eventually(PATIENCE, || Ok(last(qmp)? > before))?,
            "nobody asked the guest after {before:?}"
        );
    }
    set(qmp, INTERVAL, &json!(0))?;
    // What was asked for before may still come.
    std::thread::sleep(SOON);
    let (before, start) = (last(qmp)?, Instant::now());
    while start.elapsed() < Duration::from_millis(2200) {
        assert_eq!(last(qmp)?, before);
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

fn people_are_shown_the_same(qmp: &mut Qmp) -> Result<()> {
    let text = qmp.monitor("info guest-stats")?;
    assert_eq!(text.matches("\nstat-").count(), 16, "{text}");
    assert!(!text.contains("unknown"), "{text}");
    let text = qmp.monitor("info balloon -v")?;
    assert!(
        text.starts_with(&format!("balloon: actual={TARGET}\r\n")),
        "{text}"
    );
    for line in [
        "state: converged",
        &format!("target: {TARGET} MiB"),
        &format!("floor: {FLOOR} MiB"),
        "free page reporting: on\r\n",
        "backend 'ram': ",
    ] {
        assert!(text.contains(&format!("  {line}")), "{line:?} is not in {text}");
    }
    Ok(())
}
