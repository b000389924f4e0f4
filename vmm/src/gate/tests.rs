use super::*;

#[test]
fn who_waits_for_a_vcpu_hears_when_it_is_wanted() {
    let hurry = Hurry::default();
    let gate = Gate::new(hurry.clone());
    gate.open();
    assert!(!hurry.is_on());
    // The others are not kicked yet, and would go on in their guest.
    gate.halt();
    assert!(!hurry.is_on());
    assert!(gate.shut(&[], Duration::ZERO));
    assert!(hurry.is_on());
    gate.open();
    assert!(!hurry.is_on());
    gate.remove();
    assert!(hurry.is_on());
    gate.open();
    assert!(hurry.is_on(), "the machine is gone");
}
