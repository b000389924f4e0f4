use kvm_ioctls::Kvm;

use super::*;

const ADDRESS: GuestAddress = GuestAddress(0x1234_5000);

#[test]
fn errors_say_what_linux_needs_to_recover() {
    for (amd, own, other) in [
        (true, STATUS_POISON, STATUS_ACTION),
        (false, STATUS_ACTION, STATUS_POISON),
    ] {
        let error = error(amd, ADDRESS);
        assert_eq!((error.status & own, error.status & other), (own, 0));
        assert_eq!(error.addr, ADDRESS.0);
        // The context is intact, so that only the program that touched the page has to die.
        assert_eq!(error.status & (1 << 57), 0, "processor context corrupt");
        assert_eq!(error.mcg_status, 7);
    }
}

#[test]
fn a_guest_that_does_not_listen_is_shut_down() {
    let kvm = match Kvm::new() {
        Ok(kvm) => kvm,
        Err(error) => return eprintln!("NOT CHECKED: /dev/kvm: {error}"),
    };
    let vm = kvm.create_vm().unwrap();
    let vcpu = vm.create_vcpu(0).unwrap();
    let told = set_up(&vcpu, true).and_then(|()| inject(&vcpu, true, ADDRESS));
    match told {
        Ok(told) => assert_eq!(told, Told::Shutdown { recursive: false }),
        Err(error) => eprintln!("NOT CHECKED: this KVM has no machine checks: {error}"),
    }
}
