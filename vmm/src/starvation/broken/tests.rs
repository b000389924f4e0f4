use super::*;

#[test]
fn what_is_told_fits_what_was_done() {
    let address = GuestAddress(0x20_0000);
    let told = |broken: BrokenMemory| {
        let report = broken.report(None);
        (
            report.recipient(),
            report.broken.action().as_qmp(),
            report.action_required(),
            report.to_string(),
        )
    };
    let (recipient, action, required, text) = told(BrokenMemory::found(address));
    assert_eq!((recipient, action, required), ("guest", "ignore", false));
    assert!(
        text.contains("0x200000") && text.contains("nobody has touched it"),
        "{text}"
    );

    let injected = BrokenMemory::touched_by_vcpu(2, address, Action::Inject, false);
    let (recipient, action, required, text) = told(injected);
    assert_eq!((recipient, action, required), ("guest", "inject", true));
    assert!(text.contains("vCPU 2 got a machine check"), "{text}");

    let reset = BrokenMemory::touched_by_vcpu(0, address, Action::Reset, true);
    assert!(told(reset).3.contains("is reset") && reset.report(None).recursive());

    let (recipient, action, _, text) = told(BrokenMemory::ours(0x7f00_0000_0000));
    assert_eq!((recipient, action), ("hypervisor", "ignore"));
    assert!(text.contains("of Ballast itself"), "{text}");
    assert_eq!(told(BrokenMemory::touched_by_device(address)).1, "fatal");
}
