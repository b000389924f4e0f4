use kvm_ioctls::Kvm;

use super::*;

#[test]
fn a_vcpu_that_never_ran_took_no_fault() {
    let kvm = match Kvm::new() {
        Ok(kvm) => kvm,
        // The lab's guests show the rest: tests/tests/starvation.rs.
        Err(error) => return eprintln!("NOT CHECKED: /dev/kvm: {error}"),
    };
    let vm = kvm.create_vm().unwrap();
    let vcpu = vm.create_vcpu(0).unwrap();
    assert_eq!(
        FaultStats::new(&vcpu).unwrap().count().unwrap(),
        FaultCount::default()
    );
}
