use super::*;

/// Of KVM: the number of pages has to fit into an `int`.
const MOST: u64 = ((1 << 31) - 1) * 4096;

#[test]
fn pieces_are_whole_and_small_enough() {
    for length in [
        4096,
        SLOT - 4096,
        SLOT,
        SLOT + 4096,
        MOST,
        8 << 40,
        (32 << 40) + 4096,
    ] {
        let mut end = 0;
        for (offset, length) in pieces(length) {
            assert_eq!(offset, end);
            assert_eq!(offset % (1 << 30), 0, "a huge page would be in two slots");
            assert!(length > 0 && length <= MOST);
            end += length;
        }
        assert_eq!(end, length);
    }
    assert_eq!(pieces(0).count(), 0);
}
