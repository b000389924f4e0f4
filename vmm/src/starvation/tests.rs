use super::*;
use crate::host::testing::{SIZE, shaky};

#[test]
fn a_cut_file_is_told_with_what_was_lost() {
    let (ram, file) = shaky();
    let address = GuestAddress(SIZE - 4096);
    assert_eq!(ram.backends()[0].lack(), None);
    file.as_file().set_len(SIZE / 2).unwrap();
    let diagnosis = Starvation::new(Witness::Vcpu(1), Some(address)).diagnose(&ram);
    assert_eq!(
        (diagnosis.cause(), diagnosis.data_lost),
        (Some("file-cut"), false)
    );
    assert_eq!(
        (diagnosis.backend.as_deref(), diagnosis.page_size),
        (Some("mem0"), Some(4096))
    );
    assert_eq!((diagnosis.vcpu(), diagnosis.address()), (Some(1), Some(address)));
    let reset = Starvation::new(Witness::Reset, Some(address)).diagnose(&ram);
    assert_eq!((reset.vcpu(), reset.cause()), (None, Some("file-cut")));
    assert!(
        reset
            .to_string()
            .contains("at guest address 0x3ff000, needed by the reset")
    );
    let text = diagnosis.to_string();
    assert!(
        text.starts_with("the host cannot supply guest memory at guest address 0x3ff000, needed by vCPU 1")
            && text.contains("its file has 2 MiB of the 4 MiB needed"),
        "{text}"
    );

    file.as_file().set_len(SIZE).unwrap();
    guest_writes(&ram, address);
    assert_eq!(ram.backends()[0].lack(), None);
    file.as_file().set_len(SIZE / 2).unwrap();
    let diagnosis = Starvation::new(Witness::Nobody, None).diagnose(&ram);
    assert!(diagnosis.data_lost, "{diagnosis}");
    assert!(
        diagnosis
            .to_string()
            .starts_with("guest memory is lost, of backend 'mem0'"),
        "{diagnosis}"
    );
    ram.backends()[0].accept_loss();
    assert!(!Starvation::new(Witness::Device, None).diagnose(&ram).data_lost);
}

fn guest_writes(ram: &Ram, address: GuestAddress) {
    crate::host::guest_copy::write(ram, address, b"guest").unwrap();
}

#[test]
fn broken_memory_is_lost_though_nothing_is_short() {
    let (ram, _file) = shaky();
    let diagnosis = Starvation::broken(GuestAddress(0x1000)).diagnose(&ram);
    assert_eq!(
        (diagnosis.cause(), diagnosis.data_lost),
        (Some("page-broken"), true)
    );
    assert!(
        diagnosis
            .to_string()
            .starts_with("guest memory is broken at guest address 0x1000"),
        "{diagnosis}"
    );
}
