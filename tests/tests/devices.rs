//! Devices besides the balloon, as a stock kernel's drivers use them.

use serde_json::json;
use tests::harness::Result;
use tests::harness::vm::Launch;

#[test]
#[ignore = "needs the lab: cargo lab test"]
fn random_bytes_reach_the_guest() -> Result<()> {
    let launch = Launch::stock()
        .line("-m 256 -device virtio-rng-pci -device virtio-rng-pci,rng=zeros,id=r1")
        .line("-object rng-random,id=zeros,filename=/dev/zero")
        .qmp();
    let mut vm = launch.start()?;
    let mut agent = vm.boot()?;
    let devices = agent.exec("lspci -nnk")?;
    assert_eq!(devices.matches("[1af4:1044]").count(), 2, "{devices}");
    let directory = "/sys/devices/virtual/misc/hw_random";
    let sources = agent.exec(&format!("cat {directory}/rng_available"))?;
    assert_eq!(sources.matches("virtio_rng.").count(), 2, "{sources}");
    for (source, is_zero) in [(0, false), (1, true)] {
        agent.exec(&format!("echo virtio_rng.{source} > {directory}/rng_current"))?;
        // The first bytes may be left from the source before.
        let read = "dd if=/dev/hwrng bs=4096 count=2 iflag=fullblock 2>/dev/null | tail -c 4096";
        let bytes = agent.exec(&format!("{read} | tr -d '\\000' | wc -c"))?;
        let others: u32 = bytes.trim().parse().unwrap_or_else(|_| panic!("{bytes}"));
        assert_eq!(
            others == 0,
            is_zero,
            "{others} bytes that are not 0 from source {source}"
        );
        // Of 4096 random bytes 16 are 0.
        assert!(is_zero || others > 4000, "{others}");
    }
    let mut qmp = vm.qmp()?;
    let kind = qmp.command("qom-get", json!({ "path": "r1", "property": "rng" }))?;
    assert_eq!(kind, json!("/objects/zeros"));
    agent.power_off()?;
    Ok(())
}
