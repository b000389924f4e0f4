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

#[test]
fn as_many_vcpus_as_kvm_takes() {
    let limits = VcpuLimits {
        recommended: 4,
        most: 6,
        ids: 10,
    };
    let check = |sockets, cores, threads, vcpus| {
        let all = Topology::new(sockets, cores, threads).unwrap();
        let checked = limits.check(all.with_vcpus(vcpus).unwrap());
        checked.map_err(|error| error.to_string())
    };
    assert_eq!(check(1, 4, 1, 4), Ok(None));
    // Only vCPUs count, not the places for them.
    assert_eq!(check(4, 4, 2, 4), Ok(None));
    let warning = check(1, 5, 1, 5).unwrap().unwrap();
    assert!(
        warning.contains("5 vCPUs, but KVM recommends no more than 4"),
        "{warning}"
    );
    let many = check(1, 8, 1, 7).unwrap_err();
    assert!(
        many.contains("7 of 8 vCPUs in 1 sockets, but the KVM of this kernel takes no more than 6"),
        "{many}"
    );
    // Sockets of three cores take four ids each.
    assert!(check(2, 3, 1, 6).is_ok());
    let few = VcpuLimits { ids: 6, ..limits };
    let high = few
        .check(Topology::new(2, 3, 1).unwrap())
        .unwrap_err()
        .to_string();
    assert!(
        high.contains("the last with APIC id 6, but the KVM of this kernel takes ids below 6"),
        "{high}"
    );
}
