use super::*;

#[test]
fn flags_of_amd_and_intel_are_hardware() {
    assert!(has_hardware_virtualisation(
        "processor\t: 0\nflags\t\t: fpu svm sse\n"
    ));
    assert!(has_hardware_virtualisation("flags\t\t: fpu vmx\n"));
}

#[test]
fn other_flags_are_a_software_kvm() {
    assert!(!has_hardware_virtualisation(
        "flags\t\t: fpu svm_lock vmxx hypervisor\n"
    ));
    assert!(!has_hardware_virtualisation(""));
    // Not the flags but the name of the line's owner.
    assert!(!has_hardware_virtualisation("vmx flags\t: ept\nflags\t\t: fpu\n"));
}

#[test]
fn each_way_of_not_opening_has_its_own_message() {
    let text = |errno| open_error(io::Error::from_raw_os_error(errno)).to_string();
    assert!(text(libc::ENOENT).contains("modprobe"));
    assert!(text(libc::ENODEV).contains("modprobe"));
    assert!(text(libc::EACCES).contains("usermod -aG"));
    assert_eq!(text(libc::EMFILE), "cannot open /dev/kvm");
}

#[test]
fn names_are_found_by_number() {
    assert_eq!(name_of(0, "/etc/passwd").as_deref(), Some("root"));
    assert_eq!(name_of(4_000_000_000, "/etc/passwd"), None);
}
