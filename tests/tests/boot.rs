//! Stock kernels and a tiny one reach user space, in every form, with one processor and with several, and end as guests
//! do.

use std::time::Duration;

use tests::harness::vm::Launch;
use tests::harness::{Result, Vm, complaints, names};

/// How long a guest may take to end.
const END: Duration = Duration::from_secs(60);

fn boots(kernel: &str, memory: &str, processors: u32) -> Result<()> {
    let mut vm = start(kernel, memory, processors)?;
    let mut agent = vm.boot()?;
    assert_eq!(
        agent.exec("grep -c ^processor /proc/cpuinfo")?.trim(),
        processors.to_string()
    );
    agent.power_off()?;
    ended_well(&mut vm)
}

fn start(kernel: &str, memory: &str, processors: u32) -> Result<Vm> {
    let launch = Launch::kernel(kernel)
        .args([
            "-device",
            "virtio-balloon-pci,id=balloon0",
            "-device",
            "pvpanic-pci",
        ])
        .qmp();
    launch
        .args(["-m", memory, "-smp", &processors.to_string()])
        .start()
}

fn ended_well(vm: &mut Vm) -> Result<()> {
    let status = vm.wait(END)?;
    assert!(status.success(), "{status}: {}", vm.errors.text());
    Ok(())
}

#[test]
#[ignore = "needs the lab: cargo lab test"]
fn tiny_elf_in_64_mib() -> Result<()> {
    boots(names::TINY_ELF, "64", 1)
}

#[test]
#[ignore = "needs the lab: cargo lab test"]
fn tiny_elf_in_5_gib_on_four_processors() -> Result<()> {
    boots(names::TINY_ELF, "5G", 4)
}

#[test]
#[ignore = "needs the lab: cargo lab test"]
fn tiny_image_in_64_mib_on_four_processors() -> Result<()> {
    boots(names::TINY_IMAGE, "64", 4)
}

#[test]
#[ignore = "needs the lab: cargo lab test"]
fn tiny_image_in_5_gib() -> Result<()> {
    boots(names::TINY_IMAGE, "5G", 1)
}

#[test]
#[ignore = "needs the lab: cargo lab test"]
fn stock_kernel_in_256_mib() -> Result<()> {
    boots(names::STOCK, "256", 1)
}

#[test]
#[ignore = "needs the lab: cargo lab test"]
fn stock_kernel_in_5_gib_on_four_processors() -> Result<()> {
    boots(names::STOCK, "5G", 4)
}

#[test]
#[ignore = "needs the lab: cargo lab test"]
fn long_every_kernel_in_the_least_and_the_most_memory() -> Result<()> {
    for (kernel, least) in [
        (names::TINY_ELF, "64"),
        (names::TINY_IMAGE, "64"),
        (names::STOCK, "256"),
    ] {
        for memory in [least, "3G", "5G"] {
            for processors in [1, 4] {
                println!("{kernel}, {memory}, {processors}");
                boots(kernel, memory, processors)?;
            }
        }
    }
    Ok(())
}

#[test]
#[ignore = "needs the lab: cargo lab test"]
fn the_guests_kernel_has_nothing_to_complain_about() -> Result<()> {
    for kernel in [names::TINY_ELF, names::STOCK] {
        let mut vm = start(kernel, "256", 2)?;
        let mut agent = vm.boot()?;
        let complaints = complaints::of(&mut agent)?;
        assert!(complaints.is_empty(), "{kernel}: {complaints:#?}");
        if kernel == names::STOCK {
            // Now it has.
            let mut qmp = vm.qmp()?;
            agent.console.send("exec echo c > /proc/sysrq-trigger")?;
            let panicked = qmp.wait_event("GUEST_PANICKED", END)?;
            assert_eq!(panicked["data"]["action"], "poweroff");
            let event = qmp.wait_event("SHUTDOWN", END)?;
            assert_eq!(event["data"]["reason"], "guest-panic");
            ended_well(&mut vm)?;
        }
    }
    Ok(())
}

#[test]
#[ignore = "needs the lab: cargo lab test"]
fn the_guest_sees_its_memory_and_its_balloon() -> Result<()> {
    let mut vm = start(names::STOCK, "4G", 1)?;
    let mut agent = vm.boot()?;
    let ram = system_ram(&agent.exec("cat /proc/iomem")?);
    // Linux never counts the first page; the firmware's area from 640 KiB to 1 MiB is the other named hole.
    let holes = 4096 + (0x10_0000 - 0x9_fc00);
    assert_eq!(ram, (4 << 30) - holes, "{}", agent.exec("cat /proc/iomem")?);

    let devices = agent.exec("lspci -nnk")?;
    let balloon = devices.split("\n0").find(|device| device.contains("[1af4:1045]"));
    let balloon = balloon.unwrap_or_else(|| panic!("no balloon in\n{devices}"));
    assert!(
        balloon.contains("Virtio memory balloon") || balloon.contains("Virtio 1.0 memory balloon"),
        "{balloon}"
    );
    assert!(balloon.contains("Kernel driver in use: virtio-pci"), "{balloon}");
    Ok(())
}

#[test]
#[ignore = "needs the lab: cargo lab test"]
fn a_reset_ends_ballast_with_success() -> Result<()> {
    for kernel in [names::TINY_ELF, names::STOCK] {
        let mut vm = start(kernel, "256", 1)?;
        let mut qmp = vm.qmp()?;
        vm.boot()?.reboot()?;
        let event = qmp.wait_event("SHUTDOWN", END)?;
        assert_eq!(
            (&event["data"]["guest"], &event["data"]["reason"]),
            (&true.into(), &"guest-reset".into())
        );
        ended_well(&mut vm)?;
    }
    Ok(())
}

#[test]
#[ignore = "needs the lab: cargo lab test"]
fn the_power_button_ends_a_guest() -> Result<()> {
    for kernel in [names::TINY_ELF, names::STOCK] {
        let mut vm = start(kernel, "256", 1)?;
        let mut qmp = vm.qmp()?;
        let _agent = vm.boot()?;
        qmp.command("system_powerdown", serde_json::Value::Null)?;
        qmp.wait_event("POWERDOWN", END)?;
        let event = qmp.wait_event("SHUTDOWN", END)?;
        assert_eq!(event["data"]["reason"], "guest-shutdown");
        ended_well(&mut vm)?;
    }
    Ok(())
}

/// Bytes of the ranges at the top level of `/proc/iomem` that are called System RAM.
fn system_ram(text: &str) -> u64 {
    let range = |line: &str| {
        let (start, end) = line.split_once(" : System RAM")?.0.split_once('-')?;
        Some(u64::from_str_radix(end, 16).ok()? - u64::from_str_radix(start, 16).ok()? + 1)
    };
    text.lines().filter_map(range).sum()
}
