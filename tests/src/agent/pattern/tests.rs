use super::*;

#[test]
fn memory_is_touched_where_there_is_so_much() {
    assert!(touch(3));
    assert!(!touch(usize::MAX >> 20));
}

#[test]
fn damage_is_counted() {
    let mut pattern = Pattern::write(3, 1).unwrap();
    assert_eq!(pattern.damaged(), 0);
    pattern.words[512..1024].fill(0);
    assert_eq!(pattern.damaged(), 512);
}

#[test]
fn pages_of_a_pattern_differ_and_seeds_differ() {
    let (one, two) = (Pattern::write(1, 1).unwrap(), Pattern::write(2, 1).unwrap());
    assert_ne!(one.words[..512], one.words[512..1024]);
    assert_ne!(one.words[..512], two.words[..512]);
    assert_eq!(one.words, Pattern::write(1, 1).unwrap().words);
}
