use super::*;

fn balloon(text: &str) -> BalloonArg {
    let DeviceArg::Balloon(arg) = device(text).unwrap() else {
        panic!("{text} is no balloon");
    };
    arg
}

fn plain() -> BalloonArg {
    BalloonArg {
        id: "balloon0".to_owned(),
        initial: None,
        min: ByteSize::default(),
        deflate_on_oom: false,
        deflate_on_distress: false,
        reporting: None,
        page_poison: true,
        stats_interval: Duration::ZERO,
    }
}

#[test]
fn reads_the_balloon() {
    assert_eq!(balloon("driver=virtio-balloon,free-page-hint=off"), plain());
    let all = "virtio-balloon-pci,id=b,initial=256M,min=128M,deflate-on-oom,deflate-on-distress=on,\
               free-page-reporting=off,page-poison=off,guest-stats-polling-interval=5";
    let expected = BalloonArg {
        id: "b".to_owned(),
        initial: Some(ByteSize::mib(256)),
        min: ByteSize::mib(128),
        deflate_on_oom: true,
        deflate_on_distress: true,
        reporting: Some(false),
        page_poison: false,
        stats_interval: Duration::from_secs(5),
    };
    assert_eq!(balloon(all), expected);
}

#[test]
fn distress_shows_in_statistics_only() {
    let arg = balloon("virtio-balloon-pci,deflate-on-distress=on");
    assert_eq!(arg.stats_interval, Duration::from_secs(1));
    let error =
        device("virtio-balloon-pci,deflate-on-distress=on,guest-stats-polling-interval=0").unwrap_err();
    assert!(error.to_string().contains("needs statistics"), "{error}");
}

#[test]
fn says_what_is_near_or_refused() {
    let text = |text: &str| device(text).unwrap_err().to_string();
    let unknown = text("virtio-baloon-pci");
    let near = "unknown device 'virtio-baloon-pci', did you mean 'virtio-balloon-pci'?; known: virtio-balloon-pci, virtio-rng-pci, ";
    assert!(unknown.starts_with(near), "{unknown}");
    assert!(text("virtio-balloon,deflate-on-omm=on").contains("did you mean 'deflate-on-oom'?"));
    assert!(text("virtio-balloon,free-page-hint=on").contains("without migration"));
    assert!(text("virtio-balloon,id=0x").contains("id=0x: expected a letter"));
    assert!(text("virtio-balloon,initial=256").contains("initial=256: expected at least 1M"));
    assert!(text("virtio-balloon,min=1023K").contains("at least 1M"));
    for interval in ["-1", "1.5", "5s", "4294967296", ""] {
        let wrong = text(&format!("virtio-balloon,guest-stats-polling-interval={interval}"));
        assert!(wrong.contains("expected seconds"), "{wrong}");
    }
    assert_eq!(text("id=x"), "-device needs 'driver=…'");
}

#[test]
fn reads_the_entropy_device() {
    let plain = RngArg {
        id: None,
        rng: None,
        max_bytes: None,
        period: Duration::from_millis(65536),
    };
    assert_eq!(device("virtio-rng-pci"), Ok(DeviceArg::Rng(plain.clone())));
    // QEMU's default, which is no limit.
    let largest = format!("virtio-rng,max-bytes={}", i64::MAX);
    assert_eq!(device(&largest), Ok(DeviceArg::Rng(plain)));
    let all = RngArg {
        id: Some("rng0".to_owned()),
        rng: Some("r".to_owned()),
        max_bytes: Some(1024),
        period: Duration::from_secs(1),
    };
    assert_eq!(
        device("virtio-rng-pci,id=rng0,rng=r,max-bytes=1024,period=1000"),
        Ok(DeviceArg::Rng(all))
    );
    let text = |text: &str| device(text).unwrap_err().to_string();
    for wrong in ["0", "-1", "1k", "9223372036854775808", ""] {
        let error = text(&format!("virtio-rng-pci,max-bytes={wrong}"));
        assert!(
            error.contains("a whole number from 1 to 9223372036854775807"),
            "{error}"
        );
    }
    assert!(text("virtio-rng-pci,period=0").contains("from 1 to 4294967295"));
}

#[test]
fn reads_the_disk() {
    let arg = BlkArg {
        id: None,
        drive: "d".to_owned(),
        serial: String::new(),
        queues: None,
    };
    assert_eq!(device("virtio-blk,drive=d"), Ok(DeviceArg::Blk(arg.clone())));
    let all = BlkArg {
        id: Some("root".to_owned()),
        serial: "12345678901234567890".to_owned(),
        queues: Some(64),
        ..arg
    };
    assert_eq!(
        device("virtio-blk-pci,id=root,drive=d,serial=12345678901234567890,num-queues=64"),
        Ok(DeviceArg::Blk(all))
    );
    let text = |text: &str| device(text).unwrap_err().to_string();
    assert_eq!(text("virtio-blk-pci"), "virtio-blk-pci needs 'drive=…'");
    assert!(text("virtio-blk-pci,drive=d,serial=123456789012345678901").contains("at most 20 bytes"));
    assert!(text("virtio-blk-pci,drive=d,num-queues=65").contains("from 1 to 64"));
}
