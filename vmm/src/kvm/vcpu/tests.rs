use devices::bus::BusKind;
use devices::fault::Faults;
use kvm_ioctls::Kvm;
use vm_memory::Bytes;

use super::*;
use crate::cpu_features::CpuFeatures;
use crate::host::testing::{SIZE, shaky};
use crate::kvm::cpuid::Processors;
use crate::topology::Topology;

/// Where the guest's program lies.
const CODE: u64 = 0x1000;
/// Where the file ends when it is cut.
const CUT: u64 = 0x8_0000;
/// What the guest writes, and where: behind the cut.
const VALUE: u8 = 0x42;
const PLACE: GuestAddress = GuestAddress(0x9_0000);

/// In real mode: write, read, and write what was read to the next byte; then use a port.
#[rustfmt::skip]
const PROGRAM: [u8; 17] = [
    0xb8, 0x00, 0x90,             // mov ax, 0x9000
    0x8e, 0xd8,                   // mov ds, ax
    0xc6, 0x06, 0x00, 0x00, VALUE, // mov byte [0], VALUE
    0xa0, 0x00, 0x00,             // mov al, [0]
    0xe6, 0x10,                   // out 0x10, al
    0xeb, 0xfe,                   // jmp $
];

#[test]
fn a_guest_waits_for_a_page_and_loses_nothing() {
    let kvm = match Kvm::new() {
        Ok(kvm) => kvm,
        // The lab's guests show it with other instructions: tests/tests/starvation.rs.
        Err(error) => return eprintln!("NOT CHECKED: /dev/kvm: {error}"),
    };
    let (ram, file) = shaky();
    ram.memory().write_slice(&PROGRAM, GuestAddress(CODE)).unwrap();
    let vm = Vm::new(kvm, ram.clone()).unwrap();
    let faults = Arc::new(Faults::default());
    let buses = Buses {
        ports: Arc::new(Bus::new(BusKind::Ports, faults.clone())),
        mmio: Arc::new(Bus::new(BusKind::Mmio, faults.clone())),
    };
    let processors =
        Processors::new(vm.kvm(), Topology::default(), Vec::new(), CpuFeatures::default()).unwrap();
    let (apic_id, cpuid) = processors.cpuids().next().unwrap().unwrap();
    let mut vcpu = Vcpu::new(&vm, 0, apic_id, &cpuid, buses, ram.clone()).unwrap();
    let mut sregs = vcpu.fd.get_sregs().unwrap();
    (sregs.cs.base, sregs.cs.selector) = (0, 0);
    vcpu.fd.set_sregs(&sregs).unwrap();
    let mut regs = vcpu.fd.get_regs().unwrap();
    (regs.rip, regs.rflags) = (CODE, 2);
    vcpu.fd.set_regs(&regs).unwrap();

    file.as_file().set_len(CUT).unwrap();
    for _ in 0..3 {
        let exit = vcpu.run();
        let Exit::MissingMemory(address) = exit else {
            panic!("{exit:?}");
        };
        // A KVM that fails KVM_RUN does not tell the address, one that makes it an MMIO exit does.
        assert!(address.is_none_or(|address| address == PLACE));
    }
    file.as_file().set_len(SIZE).unwrap();
    let exit = vcpu.run();
    assert!(matches!(exit, Exit::Continue), "{exit:?}");
    assert_eq!(ram.memory().read_obj::<u8>(PLACE).unwrap(), VALUE);
    let regs = vcpu.fd.get_regs().unwrap();
    assert_eq!(regs.rax & 0xff, u64::from(VALUE), "the guest reads what it wrote");
}

#[test]
fn an_access_is_repeated_as_it_was() {
    let (ram, file) = shaky();
    let write = Lost::write(PLACE, &[1, 2, 3, 4]);
    let read = Lost::read(GuestAddress(PLACE.0 + 1), 2);
    file.as_file().set_len(CUT).unwrap();
    assert!(write.repeat(&ram).is_err() && read.repeat(&ram).is_err());
    file.as_file().set_len(SIZE).unwrap();
    write.repeat(&ram).unwrap();
    assert_eq!(read.repeat(&ram).unwrap()[..2], [2, 3]);
    assert_eq!(ram.memory().read_obj::<u64>(PLACE).unwrap(), 0x0403_0201);
}
