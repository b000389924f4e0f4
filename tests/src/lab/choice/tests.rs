use super::*;

fn facts(wish: Option<&str>, unusable: Option<&str>, nested: bool) -> Facts {
    Facts {
        wish: wish.map(Into::into),
        unusable: unusable.map(Into::into),
        nested,
    }
}

#[test]
fn the_machine_decides() {
    let place = |facts: Facts, direct| choose(&facts, direct).unwrap().place;
    assert_eq!(place(facts(None, None, true), true), Place::Direct);
    assert_eq!(place(facts(None, None, true), false), Place::LabKvm);
    assert_eq!(place(facts(None, None, false), false), Place::LabTcg);
    assert_eq!(place(facts(None, Some("no"), true), true), Place::LabTcg);
}

#[test]
fn the_user_decides_first() {
    let choice = choose(&facts(Some("kvm"), Some("no"), false), true).unwrap();
    assert_eq!(choice.place, Place::LabKvm);
    assert!(choice.to_string().contains("BALLAST_LAB=kvm"));
    assert!(choose(&facts(Some("direct"), None, true), false).is_err());
    assert!(choose(&facts(Some("xen"), None, true), true).is_err());
}
