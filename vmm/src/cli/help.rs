//! The texts of `ballast --help` and `ballast run --help`, made from the options and the tables of properties.

use std::fmt::Write;

use super::properties::{FAMILIES, Property};
use super::{options, spelling};

/// Command lines that work, for the help and for the test that parses them.
pub(super) const EXAMPLES: &[(&str, &str)] = &[
    (
        "A guest with 512 MiB, its console on the terminal:",
        "ballast run -m 512 -kernel bzImage -append console=ttyS0",
    ),
    (
        "RAM from huge pages, filled before the guest starts:",
        "ballast run -m 512 -mem-path /dev/hugepages -mem-prealloc -kernel bzImage",
    ),
    (
        "The same with a backend of its own:",
        "ballast run -m 512 -object memory-backend-file,id=mem,size=512M,mem-path=/dev/hugepages,share=on \
         -numa node,memdev=mem -mem-prealloc -kernel bzImage",
    ),
    (
        "Memory from host node 1 only:",
        "ballast run -m 1G -object memory-backend-ram,id=mem,size=1G,host-nodes=1,policy=bind,prealloc=on \
         -machine memory-backend=mem -kernel bzImage",
    ),
    (
        "Two guest nodes, each on a host node of its own:",
        "ballast run -m 2G -smp 2 -object memory-backend-ram,id=m0,size=1G,host-nodes=0,policy=bind \
         -object memory-backend-ram,id=m1,size=1G,host-nodes=1,policy=bind -numa node,cpus=0,memdev=m0 \
         -numa node,cpus=1,memdev=m1 -numa dist,src=0,dst=1,val=21 -kernel bzImage",
    ),
    (
        "Memory that KSM may merge with that of other guests:",
        "ballast run -m 512 -machine mem-merge=on -kernel bzImage",
    ),
    (
        "A balloon, commands on the terminal ('balloon 256', 'info balloon'), QMP on a socket:",
        "ballast run -m 512 -kernel bzImage -device virtio-balloon-pci,id=balloon0 -serial file:console.log \
         -monitor stdio -qmp unix:qmp.sock,server=on,wait=off",
    ),
    (
        "A disk, and another one that is only read:",
        "ballast run -kernel bzImage -drive file=root.qcow2,format=qcow2 -drive file=data.img,format=raw,if=none,id=d,readonly=on \
         -device virtio-blk-pci,drive=d,serial=DATA-1",
    ),
    (
        "A network card on a tap interface that is there and up:",
        "ballast run -kernel bzImage -netdev tap,id=lan,ifname=tap0,script=no -device virtio-net-pci,netdev=lan",
    ),
    (
        "A disk that another process serves from the guest's memory, which is shared for that:",
        "ballast run -kernel bzImage -m 512M -object memory-backend-memfd,id=m,size=512M,share=on -machine memory-backend=m \
         -chardev socket,id=c,path=disk.sock,reconnect=1 -device vhost-user-blk-pci,chardev=c",
    ),
    (
        "In the background, ended in peace by 'kill $(cat guest.pid)':",
        "ballast run -daemonize -pidfile guest.pid -serial file:console.log -kernel bzImage",
    ),
    (
        "A virtio console; the serial port gets the kernel's first words only:",
        "ballast run -kernel bzImage -append console=hvc0 -serial file:early.log -chardev stdio,id=c \
         -device virtio-serial-pci -device virtconsole,chardev=c",
    ),
    (
        "Sockets between guest and host without a network; 'CONNECT 22' and a line's end to vm.sock reaches the guest's port 22:",
        "ballast run -kernel bzImage -device virtio-vsock-pci,guest-cid=3,socket=vm.sock",
    ),
    (
        "Random numbers of a device, 1 KiB a second at most:",
        "ballast run -kernel bzImage -object rng-random,id=hw,filename=/dev/hwrng \
         -device virtio-rng-pci,rng=hw,max-bytes=1024,period=1000",
    ),
];

/// Text of `ballast --help`.
pub(super) fn program() -> String {
    format!(
        "Ballast {}: a KVM virtual machine monitor for people who care where guest memory is.\n\n\
         Usage:\n  \
         ballast run OPTIONS   start a guest; 'ballast run --help' lists the options\n  \
         ballast doctor        say what this machine has for guests, and what to do\n  \
         ballast --version     print the version\n  \
         ballast --help        print this text\n\n\
         Example:\n  {}\n",
        env!("CARGO_PKG_VERSION"),
        EXAMPLES[0].1
    )
}

/// Text of `ballast run --help`.
pub(super) fn run() -> String {
    let mut text = "Start a guest.\n\nUsage: ballast run -kernel FILE OPTIONS\n\n\
         Options have QEMU's names, with one dash or two. In lists of properties ',,' is a comma and a name\n\
         without '=' means '=on'. Sizes take a suffix K, M, G or T (binary).\n"
        .to_owned();
    let options = options();
    let mut heading = None;
    for option in options.get_arguments() {
        let Some(name) = option.get_long() else { continue };
        if heading != option.get_help_heading() {
            heading = option.get_help_heading();
            line(&mut text, &format!("\n{}:", heading.unwrap_or("Options")));
        }
        let value = if spelling::takes_value(option) {
            spelling::value_name(option)
        } else {
            String::new()
        };
        let aliases: Vec<_> = option
            .get_all_aliases()
            .unwrap_or_default()
            .iter()
            .map(|a| format!(", -{a}"))
            .collect();
        line(
            &mut text,
            format!("  -{name}{} {value}", aliases.concat()).trim_end(),
        );
        line(
            &mut text,
            &format!(
                "      {}",
                option.get_help().map(ToString::to_string).unwrap_or_default()
            ),
        );
        properties(&mut text, name);
    }
    line(
        &mut text,
        "  -h, -help\n      Print this text\n  -V, -version\n      Print the version",
    );
    line(
        &mut text,
        "\nExit status: 0 the guest ended, 1 an error before it started, 2 a failure while it ran.",
    );
    line(&mut text, "\nExamples:");
    for (what, example) in EXAMPLES {
        line(&mut text, &format!("  {what}\n    {example}"));
    }
    text
}

/// The properties of an option; those that several families share only with the first.
fn properties(text: &mut String, option: &str) {
    let mut shown: Vec<&[Property]> = Vec::new();
    for family in FAMILIES.iter().filter(|family| family.option == option) {
        let is_shown = |rows: &[Property]| shown.iter().any(|known| std::ptr::eq(*known, rows));
        let (old, new): (Vec<&[Property]>, Vec<&[Property]>) =
            family.rows.iter().copied().partition(|rows| is_shown(rows));
        if new.is_empty() {
            continue;
        }
        let besides = if old.is_empty() {
            ""
        } else {
            ", besides those above"
        };
        line(text, &format!("      {}{besides}:", family.owner));
        for property in new.iter().copied().flatten() {
            line(text, &format!("        {}", property.describe()));
        }
        shown.extend(new);
    }
}

fn line(text: &mut String, line: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{line}");
}
