use serde_json::json;

use super::super::AREAS;
use super::*;

fn pair(name: &str, ours: f64, theirs: f64) -> Row {
    Row::new(Measured::pairs(name, "s", "QEMU 7.2", &[(ours, theirs)]).unwrap())
}

#[test]
fn each_budget_is_of_an_area_and_stands_once() {
    for (index, (name, _)) in BUDGETS.iter().enumerate() {
        let (area, _) = name.split_once('.').unwrap();
        assert!(AREAS.iter().any(|known| known.name == area), "{name}");
        assert!(!BUDGETS[..index].iter().any(|(other, _)| other == name), "{name}");
    }
}

#[test]
fn a_limit_itself_is_within() {
    assert_eq!(pair("boot.user-space", 0.8, 1.0).within, Some(true));
    assert_eq!(pair("boot.user-space", 0.81, 1.0).within, Some(false));
    assert_eq!(pair("prealloc.2m.1-thread.loop", 0.95, 1.0).within, Some(true));
    assert_eq!(pair("prealloc.2m.1-thread.loop", 0.94, 1.0).within, Some(false));
    let own = |value| Row::new(Measured::alone("overhead.own", "MiB", &[value]).unwrap()).within;
    assert_eq!((own(2.0), own(2.1)), (Some(true), Some(false)));
}

#[test]
fn without_a_ratio_a_budget_of_one_is_missed() {
    assert_eq!(pair("boot.user-space", 0.5, 0.0).within, Some(false));
    assert_eq!(pair("boot.nothing", 0.5, 0.0).within, None);
}

#[test]
fn a_row_is_flat_in_json() {
    let row = serde_json::to_value(pair("boot.user-space", 1.0, 2.0)).unwrap();
    let expected = json!({
        "name": "boot.user-space", "value": 1.0, "unit": "s",
        "against": { "name": "QEMU 7.2", "value": 2.0 },
        "ratio": 0.5, "quartiles": [0.5, 0.5], "samples": 1,
        "budget": "ratio <= 0.8", "within": true,
    });
    assert_eq!(row, expected);
}
