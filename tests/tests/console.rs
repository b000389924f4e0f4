//! The console of virtio, as a stock kernel's driver uses it.

use tests::harness::Result;
use tests::harness::vm::Launch;

/// The agent talks over the console itself, so everything here went through it, in both directions.
#[test]
#[ignore = "needs the lab: cargo lab test"]
fn the_console_carries_much_and_loses_nothing() -> Result<()> {
    let mut vm = Launch::stock()
        .append("agent=/dev/hvc0")
        .line("-m 256 -smp 2 -chardev stdio,id=c -device virtio-serial-pci -device virtconsole,chardev=c")
        .line("-serial none")
        .start()?;
    let mut agent = vm.boot()?;
    let devices = agent.exec("lspci -nn")?;
    assert_eq!(devices.matches("[1af4:1043]").count(), 1, "{devices}");

    // More than a page, and more than Ballast keeps for a guest that does not read.
    let typed = "x".repeat(3000);
    for _ in 0..3 {
        assert_eq!(agent.exec(&format!("echo {typed}"))?.trim(), typed);
    }

    let lines = 4096;
    let all = agent.exec(&format!("seq -w 1 99999 | head -n {lines} | sed s/^/0123456789/"))?;
    let expected: String = (1..=lines).map(|line| format!("0123456789{line:05}\n")).collect();
    assert!(all == expected, "the console lost or changed something");
    Ok(())
}
