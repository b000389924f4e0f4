//! Memory that the guest does not need goes back to the host, and comes back when it does.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::harness::backing::{self, Backing, HUGE_PAGE, ID};
use tests::harness::hugepages::ALL_2M;
use tests::harness::qmp::Qmp;
use tests::harness::vm::{Launch, eventually};
use tests::harness::{Result, Vm, balloon};

/// The guest's RAM in MiB, and what the balloon is to leave.
const RAM: u64 = 256;
const LEFT: u64 = 128;
/// MiB that the guest writes once it has all its memory again. Not everything: its kernel keeps freed pages at hand for each
/// CPU for some seconds and does not count them.
const AGAIN: usize = 160;
const MEBIBYTE: u64 = 1 << 20;
/// How long taking memory may last.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long Ballast may take to end.
const END: Duration = Duration::from_secs(10);
/// Bytes that the guest keeps when it fills its memory: programs need some.
const SPARE: u64 = 12 * MEBIBYTE;

#[test]
#[ignore = "needs the lab: cargo lab test"]
fn anonymous_memory_goes_and_comes_back() -> Result<()> {
    goes_and_comes_back(Backing::Anonymous, 95, "")
}

#[test]
#[ignore = "needs the lab: cargo lab test"]
fn a_locked_memfd_goes_and_comes_back() -> Result<()> {
    goes_and_comes_back(Backing::Memfd, 95, ",lock=on-fault")
}

#[test]
#[ignore = "needs the lab: cargo lab test"]
fn long_a_directory_in_memory_goes_and_comes_back() -> Result<()> {
    goes_and_comes_back(Backing::Tmpfs, 95, "")
}

#[test]
#[ignore = "needs the lab: cargo lab test"]
fn a_memfd_of_huge_pages_goes_and_comes_back() -> Result<()> {
    let _pool = ALL_2M.set(RAM * MEBIBYTE / HUGE_PAGE)?;
    goes_and_comes_back(Backing::HugeMemfd, 75, "")
}

#[test]
#[ignore = "needs the lab: cargo lab test"]
fn long_a_directory_of_huge_pages_goes_and_comes_back() -> Result<()> {
    let _pool = ALL_2M.set(RAM * MEBIBYTE / HUGE_PAGE)?;
    goes_and_comes_back(Backing::HugeDirectory, 75, "")
}

/// Takes half of a guest's memory, of which the host has to get this many percent, and gives it back.
fn goes_and_comes_back(kind: Backing, percent: u64, properties: &str) -> Result<()> {
    // What the host gets shall be the balloon's doing alone.
    let device = format!("{},free-page-reporting=off", balloon::DEVICE[1]);
    let launch = Launch::tiny().args([balloon::DEVICE[0], &device]).qmp();
    let mut vm = kind.launch(launch, RAM, properties).start()?;
    let mut agent = vm.boot()?;
    let mut qmp = vm.qmp()?;
    let locked = backing::only_mapping(&vm)?.has_flag("lo");
    assert_eq!(locked, properties.contains("lock="), "{kind:?}");
    let everything = usize::try_from((agent.memory()?.available - SPARE) / MEBIBYTE).unwrap_or(0);
    agent.fill("first", 1, everything)?;
    agent.free("first")?;
    let before = kind.held(&vm)?;
    assert!(
        before >= RAM * MEBIBYTE / 100 * 85,
        "{kind:?}: the host holds {before}"
    );

    let start = Instant::now();
    let wanted = (RAM - LEFT) * MEBIBYTE * percent / 100;
    balloon::ask(&mut qmp, LEFT * MEBIBYTE)?;
    let enough = eventually(PATIENCE, || Ok(kind.held(&vm)? + wanted <= before))?;
    let freed = before.saturating_sub(kind.held(&vm)?);
    assert!(
        enough,
        "{kind:?}: only {freed} of {wanted} bytes were freed: {}",
        report(&mut qmp)?
    );
    balloon::wait(&mut qmp, LEFT * MEBIBYTE, PATIENCE)?;
    let took = start.elapsed();
    assert!(took <= PATIENCE, "{kind:?}: took {took:?}");
    let freed = before.saturating_sub(kind.held(&vm)?);
    println!(
        "{kind:?}: freed {} MiB of {} MiB in {took:?}",
        freed / MEBIBYTE,
        RAM - LEFT
    );
    says(&mut qmp, LEFT)?;
    let taken = figures(kind, &vm, &mut qmp, RAM - LEFT)?;
    assert!(
        freed <= taken.discarded,
        "{kind:?}: {freed} bytes freed, but {taken:?}"
    );
    assert!(taken.discarded + taken.partial >= taken.inflated, "{taken:?}");
    assert!(kind.is_huge() || taken.partial == 0, "{taken:?}");

    balloon::ask(&mut qmp, RAM * MEBIBYTE)?;
    balloon::wait(&mut qmp, RAM * MEBIBYTE, PATIENCE)?;
    says(&mut qmp, RAM)?;
    agent.fill("second", 2, AGAIN)?;
    let after = kind.held(&vm)?;
    assert!(
        after >= (AGAIN as u64) * MEBIBYTE,
        "{kind:?}: the host holds {after}"
    );

    let back = figures(kind, &vm, &mut qmp, 0)?;
    assert_eq!((back.partial, back.discarded), (0, taken.discarded), "{kind:?}");
    // What the guest had never written does not come back, it comes; and what it gave twice is counted twice.
    let (came, never) = (back.resident - taken.resident, RAM * MEBIBYTE - before);
    let twice = taken.discarded + taken.partial - taken.inflated;
    assert!(
        back.refaulted + never >= came && back.refaulted <= came + twice,
        "{kind:?}: {came} bytes came, {never} for the first time: {back:?}"
    );

    agent.verify("second")?;
    if kind == Backing::Anonymous {
        more_than_ram_is_ram(&mut qmp)?;
        agent.power_off()?;
        assert!(vm.wait(END)?.success(), "{}", vm.errors.text());
    }
    Ok(())
}

/// What Ballast says of the guest's backend, in bytes.
#[derive(Debug)]
struct Figures {
    inflated: u64,
    discarded: u64,
    partial: u64,
    resident: u64,
    refaulted: u64,
}

/// Reads them once they agree with what the host says, and with the MiB that are in the balloon.
fn figures(kind: Backing, vm: &Vm, qmp: &mut Qmp, inflated: u64) -> Result<Figures> {
    let mut backend = Value::Null;
    let inflated = inflated * MEBIBYTE;
    let agree = eventually(PATIENCE, || {
        backend = qmp.command("x-ballast-query-balloon", Value::Null)?["backends"][0].take();
        Ok(backend["resident"] == kind.held(vm)? && backend["inflated"] == inflated)
    })?;
    assert!(
        agree,
        "{kind:?}: {inflated} bytes inflated, {} held: {backend}",
        kind.held(vm)?
    );
    assert_eq!(
        (&backend["id"], &backend["page-size"]),
        (&json!(ID), &json!(kind.page()))
    );
    let shown = qmp.monitor("info balloon -v")?;
    let line = format!(
        "pages of {} KiB; inflated {} MiB,",
        kind.page() >> 10,
        inflated >> 20
    );
    let line = line.replace("2048 KiB", "2 MiB").replace(" 0 MiB", " 0 bytes");
    assert!(shown.contains(&line), "{line:?} is not in {shown}");
    let figure = |name: &str| {
        let figure = backend[name].as_u64();
        figure.unwrap_or_else(|| panic!("no {name} in {backend}"))
    };
    Ok(Figures {
        inflated,
        discarded: figure("discarded"),
        partial: figure("partial"),
        resident: figure("resident"),
        refaulted: figure("refaulted"),
    })
}

/// The event came, and the monitor shows the same size.
fn says(qmp: &mut Qmp, mebibytes: u64) -> Result<()> {
    while qmp.wait_event("BALLOON_CHANGE", PATIENCE)?["data"]["actual"] != mebibytes * MEBIBYTE {}
    assert_eq!(
        qmp.monitor("info balloon")?.trim_end(),
        format!("balloon: actual={mebibytes}")
    );
    Ok(())
}

fn more_than_ram_is_ram(qmp: &mut Qmp) -> Result<()> {
    qmp.monitor(&format!("balloon {}", RAM + 154))?;
    let target = &qmp.command("x-ballast-query-memory", Value::Null)?["balloon"]["target"];
    assert_eq!(*target, RAM * MEBIBYTE);
    // Long enough for a guest that would follow.
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(
        qmp.monitor("info balloon")?.trim_end(),
        format!("balloon: actual={RAM}")
    );
    Ok(())
}

fn report(qmp: &mut Qmp) -> Result<Value> {
    Ok(qmp.command("x-ballast-query-memory", Value::Null)?["balloon"].take())
}
