use super::*;

#[test]
fn only_many_unserved_faults_in_a_row_count() {
    let samples = [0, 40, 80, 81, 120, 121];
    let mut seen = Vec::new();
    let mut so_far = 0;
    for pair in samples.windows(2) {
        so_far = rounds(so_far, pair[0], pair[1]);
        seen.push(so_far);
    }
    assert_eq!(seen, [1, 2, 0, 1, 0]);
}
