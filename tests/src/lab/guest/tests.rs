use super::*;

#[test]
fn only_wanted_vendors_and_classes_stay() {
    let list = "# text\n1af4  Red Hat\n\t1045  balloon\n\t\t1af4 1100  x\n1b00  Other\n\t1  y\nC 05  Memory\n\t00  RAM\n";
    assert_eq!(
        only(list, &["1af4"]),
        "1af4  Red Hat\n\t1045  balloon\n\t\t1af4 1100  x\nC 05  Memory\n\t00  RAM\n"
    );
}
