use super::super::properties::net::NET;
use super::*;

#[test]
fn reads_networks() {
    let expected = NetdevArg {
        id: "lan".into(),
        kind: NetdevKind::Tap {
            interface: "tap0".into(),
        },
    };
    assert_eq!(netdev("tap,id=lan,ifname=tap0,script=no"), Ok(expected.clone()));
    let usual = "type=tap,id=lan,ifname=tap0,script=no,downscript=no,vhost=off";
    assert_eq!(netdev(usual), Ok(expected));
    let daemon = NetdevArg {
        id: "lan".into(),
        kind: NetdevKind::VhostUser { chardev: "c".into() },
    };
    assert_eq!(netdev("vhost-user,id=lan,chardev=c,queues=1"), Ok(daemon));
    let text = |text: &str| netdev(text).unwrap_err().to_string();
    assert_eq!(text("vhost-user,id=lan"), "vhost-user needs 'chardev=…'");
    assert!(text("vhost-user,id=lan,chardev=c,queues=2").contains("queues=2"));
    assert_eq!(text("tap,ifname=tap0,script=no"), "tap needs 'id=…'");
    assert_eq!(text("tap,id=lan,script=no"), "tap needs 'ifname=…'");
    assert!(text("tap,id=lan,ifname=a-name-too-long-,script=no").contains("at most 15 bytes"));
    assert!(text("tap,id=lan,ifname=a/b,script=no").contains("the name of an interface"));
    for scripts in [
        "",
        ",script=/etc/qemu-ifup",
        ",script=no,downscript=/x",
        ",script",
    ] {
        let text = text(&format!("tap,id=lan,ifname=tap0{scripts}"));
        assert!(text.contains("say script=no"), "{text}");
    }
    assert!(text("tap,id=lan,ifname=tap0,script=no,vhost=on").contains("vhost-net"));
    assert!(text("user,id=lan").contains("unknown network 'user'"));
    assert!(text("tap,id=lan,ifname=tap0,script=no,fd=3").contains("has no property 'fd'"));
}

#[test]
fn reads_cards() {
    let read = |text: &str| device(&NET.accept(keyval::split(text, None)?)?);
    let plain = NetArg {
        id: None,
        netdev: "lan".into(),
        mac: None,
        features: features::OPTIONAL,
        mtu: None,
    };
    assert_eq!(read("netdev=lan"), Ok(plain.clone()));
    let all = "netdev=lan,id=n,mac=52:54:00:00:00:01,host_mtu=9000,csum=off,mrg_rxbuf=off,guest_tso6=on";
    let host = features::F_CSUM | features::F_HOST_TSO4 | features::F_HOST_TSO6 | features::F_HOST_ECN;
    let expected = NetArg {
        id: Some("n".into()),
        mac: Some("52:54:00:00:00:01".parse().unwrap()),
        features: features::OPTIONAL & !host & !features::F_MRG_RXBUF,
        mtu: Some(9000),
        ..plain
    };
    assert_eq!(read(all), Ok(expected));
    let text = |text: &str| read(text).unwrap_err().to_string();
    assert_eq!(text("id=n"), "virtio-net-pci needs 'netdev=…'");
    let group = text("netdev=lan,mac=01:00:5e:00:00:01");
    assert_eq!(
        group,
        "mac=01:00:5e:00:00:01: this is the address of a group: the first byte has to be even"
    );
    assert!(text("netdev=lan,mac=52:54").contains("expected six bytes"));
    assert!(text("netdev=lan,host_mtu=10").contains("from 68 to 65535"));
    assert!(text("netdev=lan,csum=maybe").contains("expected on or off"));
}
