use super::*;

#[test]
fn a_setting_that_did_not_take_is_named() {
    let effective = "CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_CD=y\n";
    assert!(
        check(
            "# a comment\nCONFIG_A=y\n# CONFIG_B is not set\n# CONFIG_C is not set\n",
            effective
        )
        .is_ok()
    );
    let error = check("CONFIG_B=y\n# CONFIG_CD is not set\n", effective)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("CONFIG_B=y") && error.contains("CONFIG_CD"),
        "{error}"
    );
}
