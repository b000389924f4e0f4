use std::ffi::OsString;

use super::*;
use crate::cli::{self, Command};

fn config(line: &str) -> Config {
    let words = ["ballast", "run", "-kernel", "k"].into_iter();
    let words = words.chain(line.split_whitespace()).map(OsString::from);
    let Command::Run(args) = cli::parse(words).unwrap() else {
        panic!("another command")
    };
    Config::new(args).unwrap()
}

#[test]
fn ram_that_has_no_address_is_refused() {
    assert!(check(&config("-m 63G"), 36).is_ok_and(|_| true));
    let text = check(&config("-m 64G"), 36).unwrap_err().to_string();
    assert_eq!(
        text,
        "the guest's RAM of 64 GiB ends at 0x1040000000, but a physical address of this host has 36 bits: \
         make it smaller than 63 GiB"
    );
    assert!(matches!(
        check(&config("-m 99999G -overcommit check=off"), 46),
        Err(Error::TooWide { .. })
    ));
}

#[test]
fn a_guest_that_is_too_large_is_told_refused_or_let_through() {
    let large = |check: &str| config(&format!("-m 32T -device virtio-balloon-pci {check}"));
    let text = check(&large(""), 52).unwrap().unwrap();
    for word in [
        "backend 'ram' 32 TiB",
        "page tables 128 GiB",
        "Ballast itself 6 MiB",
        "queues 4 MiB",
        "available on this host",
        "make the guest smaller",
        "check=off",
    ] {
        assert!(text.contains(word), "{word}: {text}");
    }
    let refused = check(&large("-overcommit check=refuse"), 52)
        .unwrap_err()
        .to_string();
    assert!(
        refused.contains("32 TiB") && refused.contains("check=warn"),
        "{refused}"
    );
    assert_eq!(check(&large("-overcommit check=off"), 52).unwrap(), None);
    assert_eq!(check(&config("-m 1 -overcommit check=refuse"), 52).unwrap(), None);
}
