use proptest::prelude::*;

use super::*;

fn bytes(text: &str) -> Result<u64, SizeError> {
    ByteSize::parse(text, SizeUnit::Byte).map(ByteSize::bytes)
}

#[test]
fn reads_what_qemu_reads() {
    let cases = [
        ("0", 0),
        ("512", 512),
        ("512b", 512),
        ("1k", 1024),
        ("512M", 512 << 20),
        ("2g", 2 << 30),
        ("1T", 1 << 40),
        ("3P", 3 << 50),
        ("15E", 15 << 60),
        ("1.5G", 3 << 29),
        ("0.5k", 512),
        ("1.1M", 1_153_433),
        ("0x1000", 4096),
        ("0Xff", 255),
        ("18446744073709551615", u64::MAX),
    ];
    for (text, expected) in cases {
        assert_eq!(bytes(text), Ok(expected), "{text}");
    }
}

#[test]
fn a_bare_number_has_the_unit_of_its_option() {
    assert_eq!(ByteSize::parse("512", SizeUnit::Mebi), Ok(ByteSize::mib(512)));
    assert_eq!(
        ByteSize::parse("1.5", SizeUnit::Mebi),
        Ok(ByteSize::from_bytes(3 << 19))
    );
    assert_eq!(
        ByteSize::parse("512b", SizeUnit::Mebi),
        Ok(ByteSize::from_bytes(512))
    );
}

#[test]
fn refuses_what_is_no_size_and_says_what_is() {
    for text in [
        "", " ", "M", "-1", "+1", "1 M", "1MB", "1MiB", "1.", ".5G", "1.5", "1.5b", "1,5G", "1e3", "0x",
        "0x1G", "0x-1", "١", "12é", "1.2.3M", "nan",
    ] {
        let error = bytes(text).unwrap_err();
        assert!(matches!(error, SizeError::Malformed { .. }), "{text}: {error}");
        assert!(error.to_string().contains("512M"), "{error}");
    }
    for text in [
        "16E",
        "18446744073709551616",
        "99999999999999999999M",
        "0x10000000000000000",
        "15.99999999999999999E9E",
    ] {
        assert!(bytes(text).is_err(), "{text}");
    }
    assert!(matches!(bytes("16E"), Err(SizeError::TooLarge { .. })));
}

#[test]
fn shows_the_largest_exact_unit() {
    let cases = [
        (0, "0 bytes"),
        (4097, "4097 bytes"),
        (4096, "4 KiB"),
        (512 << 20, "512 MiB"),
        (3 << 29, "1536 MiB"),
        (5 << 30, "5 GiB"),
        (1 << 40, "1 TiB"),
    ];
    for (bytes, expected) in cases {
        assert_eq!(ByteSize::from_bytes(bytes).to_string(), expected);
    }
}

#[test]
fn pages_are_those_of_x86() {
    assert_eq!(PageSize::from_bytes(4096), Some(PageSize::BASE));
    assert_eq!(PageSize::from_bytes(2 << 20), Some(PageSize::HUGE_2M));
    assert_eq!(PageSize::from_bytes(1 << 30), Some(PageSize::HUGE_1G));
    assert_eq!(PageSize::from_bytes(1 << 16), None);
    assert_eq!(PageSize::HUGE_2M.to_string(), "2 MiB");
    assert_eq!(PageSize::HUGE_2M.floor(u64::MAX), u64::MAX - (2 << 20) + 1);
    assert_eq!(PageSize::HUGE_2M.ceil(u64::MAX), None);
    assert_eq!(ByteSize::from_bytes(4097).pages(PageSize::BASE), 2);
}

proptest! {
    #[test]
    fn any_text_ends_in_a_size_or_an_error(text in ".{0,12}") {
        let _ = ByteSize::parse(&text, SizeUnit::Mebi);
    }

    #[test]
    fn whole_numbers_are_exact(number in 0_u64..1 << 24, shift in 0_usize..5) {
        let text = format!("{number}{}", ["", "K", "M", "G", "T"][shift]);
        prop_assert_eq!(bytes(&text), Ok(number << (10 * shift)));
    }

    #[test]
    fn a_fraction_is_rounded_down(whole in 0_u64..1000, thousandths in 0_u64..1000) {
        let text = format!("{whole}.{thousandths:03}M");
        prop_assert_eq!(bytes(&text), Ok((whole << 20) + (thousandths << 20) / 1000));
    }
}
