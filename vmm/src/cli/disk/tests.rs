use super::*;

#[test]
fn reads_drives() {
    let plain = DriveArg {
        id: None,
        file: "a,b.img".into(),
        format: ImageFormat::Raw,
        read_only: false,
        discard: true,
        with_device: true,
    };
    assert_eq!(drive("file=a,,b.img,format=raw"), Ok(plain.clone()));
    let usual = "file=a,,b.img,format=raw,if=virtio,media=disk,cache=writeback,discard=on";
    assert_eq!(drive(usual), Ok(plain.clone()));
    let qcow2 = drive("file=a,,b.img,format=qcow2").map(|drive| drive.format);
    assert_eq!(qcow2, Ok(ImageFormat::Qcow2));
    let other = DriveArg {
        id: Some("d".to_owned()),
        read_only: true,
        discard: false,
        with_device: false,
        ..plain
    };
    assert_eq!(
        drive("id=d,file=a,,b.img,format=raw,if=none,readonly,discard=ignore"),
        Ok(other)
    );
}

#[test]
fn never_guesses_a_format() {
    let text = |text: &str| drive(text).unwrap_err().to_string();
    let missing = text("file=x");
    assert!(
        missing.contains("format=raw") && missing.contains("never guessed"),
        "{missing}"
    );
    assert!(text("file=x,format=vmdk").contains("expected raw or qcow2"));
    assert_eq!(text("format=raw"), "-drive needs 'file=…'");
    assert!(text("file=x,format=raw,if=ide").contains("expected virtio or none"));
    assert!(text("file=x,format=raw,werror=enospc").contains("only 'werror=report'"));
    assert!(drive("file=x,format=raw,werror=report,rerror=report").is_ok());
    assert!(text("file=x,format=raw,cache=none").contains("expected writeback"));
    assert!(text("file=x,format=raw,snapshot=on").contains("has no property 'snapshot'"));
}
