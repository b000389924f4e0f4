use super::*;

#[test]
fn the_first_sixteen_lines_go_to_both_controllers() {
    let routes = default_routes();
    assert_eq!(routes.len(), 24 + 16);
    for gsi in 0..24 {
        let chips = routes.iter().filter(|route| route.gsi == gsi).count();
        assert_eq!(chips, if gsi < 16 { 2 } else { 1 }, "gsi {gsi}");
    }
}

#[test]
fn a_message_keeps_all_its_bits() {
    let route = message_route(
        24,
        MsiMessage {
            address: 0x1_fee0_1004,
            data: 0x4021,
        },
    );
    assert_eq!((route.gsi, route.type_), (24, KVM_IRQ_ROUTING_MSI));
    // SAFETY: a message route fills this member of the union.
    let msi = unsafe { route.u.msi };
    assert_eq!(
        (msi.address_hi, msi.address_lo, msi.data),
        (1, 0xfee0_1004, 0x4021)
    );
}
