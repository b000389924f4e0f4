//! Giving back what only the start needed, so that many guests find room beside each other.
//!
//! A start parses options, reads a kernel and writes tables: two thirds of the program, and most of the heap and of the stack that
//! it ever uses. What is given back here comes again when it is touched.

#![allow(unsafe_code)]

use std::ptr;

/// Bytes of a page.
const PAGE: usize = 4096;
/// Below what the stack holds now there may be frames of what is called from here.
const FRAMES: usize = 4 * 1024;
/// No start uses more of the stack. The kernel keeps this much free of mappings below a stack (`stack_guard_gap`).
const DEEPEST: usize = 512 * 1024;

unsafe extern "C" {
    // Of the linker: where the program begins, and where its code ends.
    static __executable_start: u8;
    static etext: u8;
}

/// To be called before there is a second thread: all threads allocate from one heap, which they seldom do once the guest runs.
/// Else each would get one of its own, with pages that are hardly used.
pub fn share_heap() {
    // SAFETY: it takes no pointers; no other thread allocates.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
}

/// To be called by the main thread when the start is over.
pub fn trim() {
    // SAFETY: it takes no pointers, and what it gives back is of no allocation.
    unsafe { libc::malloc_trim(0) };
    let code = (&raw const __executable_start).addr()..(&raw const etext).addr();
    // From the first whole page to the last: the one behind may hold constants that were relocated.
    // SAFETY: program headers, constants and code, which nobody has written to: they are in the file.
    unsafe { drop_pages(code.start.next_multiple_of(PAGE), code.end / PAGE * PAGE) };
    let here = 0_u8;
    let end = (&raw const here).addr().saturating_sub(FRAMES) / PAGE * PAGE;
    // SAFETY: below the last frame there is nothing that anybody reads again; and nothing but the stack is so near to it.
    unsafe { drop_pages(end.saturating_sub(DEEPEST), end) };
}

/// Drops the pages from `start` to `end` (madvise(2), `MADV_DONTNEED`).
///
/// # Safety
/// What is mapped there is either in a file as it is in memory, or not needed.
unsafe fn drop_pages(start: usize, end: usize) {
    let len = end.saturating_sub(start);
    // What fails, as on addresses where nothing is mapped, stays as it is.
    // SAFETY: the caller says that nothing is lost.
    unsafe { libc::madvise(ptr::without_provenance_mut(start), len, libc::MADV_DONTNEED) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_goes_on_afterwards() {
        share_heap();
        let kept = (0..1000).map(|number| number.to_string()).collect::<Vec<_>>();
        for _ in 0..3 {
            trim();
            let sum: usize = kept.iter().map(|text| text.parse::<usize>().unwrap()).sum();
            assert_eq!(sum, 499_500, "{kept:?}");
        }
    }
}
