//! Guests with the same content share pages where both may, and only there.

use std::process::ChildStdin;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::harness::Result;
use tests::harness::agent::Agent;
use tests::harness::backing::{self, BASE_PAGE, Backing};
use tests::harness::knob::Knob;
use tests::harness::maps::figure;
use tests::harness::vm::{Launch, Vm, eventually};

/// A guest's RAM in MiB, and the pattern in it.
const RAM: u64 = 160;
const PATTERN: usize = 104;
/// Pages of a pattern, and of all the rest, in which zeroes and the guest's kernel can be merged too.
const PAGES: u64 = ((PATTERN as u64) << 20) / BASE_PAGE;
const REST: u64 = (RAM << 20) / BASE_PAGE - PAGES;
/// With so many pages merged, at least half of the pattern is among them.
const WANTED: u64 = REST + PAGES / 2;
const SEED: u64 = 7;
/// How long merging may take.
const PATIENCE: Duration = Duration::from_secs(60);

struct Guest {
    vm: Vm,
    agent: Agent<ChildStdin>,
}

impl Guest {
    fn start(merge: &str) -> Result<Guest> {
        let launch = Backing::Anonymous.launch(Launch::tiny().qmp(), RAM, &format!(",merge={merge}"));
        let mut vm = launch.start()?;
        let agent = vm.boot()?;
        Ok(Guest { vm, agent })
    }

    fn merging(&self) -> Result<u64> {
        figure(self.vm.pid(), "ksm_merging_pages", None)
    }
}

#[test]
#[ignore = "needs the lab: cargo lab test"]
fn equal_guests_share_pages_where_they_may() -> Result<()> {
    let mut guests = [Guest::start("on")?, Guest::start("on")?, Guest::start("off")?];
    for guest in &mut guests {
        guest.agent.fill("pattern", SEED, PATTERN)?;
    }
    let [first, second, other] = &mut guests;

    let start = Instant::now();
    let _fast = knob("pages_to_scan", "20000")?;
    let _busy = knob("sleep_millisecs", "10")?;
    let _run = knob("run", "1")?;
    let enough = eventually(PATIENCE, || Ok(first.merging()?.min(second.merging()?) >= WANTED))?;
    let (one, two) = (first.merging()?, second.merging()?);
    assert!(enough, "merged {one} and {two} pages, not {WANTED}");
    println!(
        "merged {one} and {two} pages, of {PAGES} with a pattern, in {:?}",
        start.elapsed()
    );
    assert_eq!(other.merging()?, 0);

    for guest in [&*first, second, other] {
        prints_its_figures(guest)?;
    }
    is_taken_from_ksm(second)?;
    // What is merged, and what was, is still what was written.
    for guest in [first, second, other] {
        guest.agent.verify("pattern")?;
    }
    Ok(())
}

/// `qom-set` changes the mapping and the pages, and `qom-get` says what is.
fn is_taken_from_ksm(guest: &Guest) -> Result<()> {
    let mut qmp = guest.vm.qmp()?;
    let path = format!("/objects/{}", backing::ID);
    // The property, the kernel's flag for it (smaps), and whether the flag is there when the property is on.
    for (name, flag, shown) in [("merge", "mg", true), ("dump", "dd", false)] {
        for on in [true, false] {
            let set = json!({ "path": path, "property": name, "value": on });
            qmp.command("qom-set", set)?;
            let get = json!({ "path": path, "property": name });
            assert_eq!(qmp.command("qom-get", get)?, on, "{name}");
            let mapping = backing::only_mapping(&guest.vm)?;
            assert_eq!(mapping.has_flag(flag), on == shown, "{name}: {:?}", mapping.flags);
        }
    }
    // The pages are the guest's own at once; the kernel's figure follows when its scanner comes by.
    assert!(guest.vm.resident()? >= (PATTERN as u64) << 20);
    let own = eventually(PATIENCE, || Ok(guest.merging()? == 0))?;
    assert!(own, "{} pages are still merged", guest.merging()?);
    Ok(())
}

/// `info ksm` says what the host's kernel says.
fn prints_its_figures(guest: &Guest) -> Result<()> {
    let mut qmp = guest.vm.qmp()?;
    // Neither the guest nor the scanner changes anything meanwhile.
    qmp.command("stop", Value::Null)?;
    let _still = knob("run", "0")?;
    let text = qmp.monitor("info ksm")?;
    let merging = format!("this guest: ksm_merging_pages={} ", guest.merging()?);
    assert!(
        text.lines().any(|line| line.starts_with(&merging)),
        "no {merging:?} in {text:?}"
    );
    for name in ["run", "pages_to_scan", "pages_shared", "pages_sharing"] {
        let host = read_figure(name)?;
        let words = format!("{name}={host}");
        assert!(
            text.split_whitespace().any(|word| word == words),
            "no {words} in {text:?}"
        );
    }
    qmp.command("cont", Value::Null)?;
    Ok(())
}

fn path(name: &str) -> std::path::PathBuf {
    format!("/sys/kernel/mm/ksm/{name}").into()
}

fn knob(name: &str, value: &str) -> Result<Knob> {
    Knob::set(&path(name), value)
}

fn read_figure(name: &str) -> Result<String> {
    let path = path(name);
    let text = std::fs::read_to_string(&path).map_err(tests::harness::Error::file("read", &path))?;
    Ok(text.trim().to_owned())
}
