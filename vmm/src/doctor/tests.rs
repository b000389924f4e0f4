use super::*;

#[test]
fn every_finding_has_a_line() {
    let diagnosis = Diagnosis::make();
    let text = diagnosis.to_string();
    for subject in [
        "kvm",
        "numa",
        "memory",
        "thp",
        "ksm",
        "overcommit",
        "limits",
        "lock",
    ] {
        let lines = text
            .lines()
            .filter(|line| line.split_whitespace().nth(1) == Some(subject));
        assert_eq!(lines.count(), 1, "{subject} in {text}");
    }
    assert_eq!(diagnosis.is_fit(), !text.contains("BAD"), "{text}");
    for finding in &diagnosis.0 {
        assert_eq!(
            finding.remedy.is_some(),
            finding.state == State::Note,
            "{finding:?}"
        );
    }
}

#[test]
fn knows_the_kinds_of_paging_and_nesting() {
    let modules = tempfile::tempdir().unwrap();
    assert!(paging(modules.path()).found.contains("do not tell"));
    assert!(nesting(modules.path()).found.contains("do not tell"));
    let parameters = modules.path().join("kvm_amd/parameters");
    fs::create_dir_all(&parameters).unwrap();
    for (value, state, expected) in [
        ("1\n", State::Good, "usable, AMD-V with NPT"),
        ("Y\n", State::Good, "usable, AMD-V with NPT"),
        ("N\n", State::Note, "usable, AMD-V with NPT switched off"),
    ] {
        fs::write(parameters.join("npt"), value).unwrap();
        let finding = paging(modules.path());
        assert_eq!(finding.state, state);
        assert!(finding.found.starts_with(expected), "{finding:?}");
        assert!(
            finding
                .remedy
                .is_none_or(|text| text.ends_with("modprobe kvm_amd npt=1"))
        );
        fs::write(parameters.join("nested"), value).unwrap();
        let finding = nesting(modules.path());
        assert_eq!(finding.state, state);
        assert!(
            finding
                .remedy
                .is_none_or(|text| text.ends_with("modprobe kvm_amd nested=1"))
        );
    }
}

#[test]
fn what_is_bad_makes_the_machine_unfit() {
    let bad = Finding {
        state: State::Bad,
        ..good("kvm", "no /dev/kvm")
    };
    let diagnosis = Diagnosis(vec![
        good("numa", "one node"),
        bad,
        note("ksm", "stopped", "start it"),
    ]);
    assert!(!diagnosis.is_fit());
    assert_eq!(
        diagnosis.to_string(),
        "ok    numa        one node\nBAD   kvm         no /dev/kvm\nnote  ksm         stopped\n                  to do: start it\n"
    );
}
