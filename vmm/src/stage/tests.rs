use super::*;

#[test]
fn names_are_unique() {
    for (index, (_, name)) in STAGES.iter().enumerate() {
        assert!(STAGES[..index].iter().all(|(_, other)| other != name), "{name}");
    }
}

#[test]
fn an_unset_variable_freezes_nothing() {
    // Would stop the test program if it did.
    Freezer(None).reached(Stage::Slots);
}
