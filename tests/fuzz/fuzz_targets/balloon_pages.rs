//! What a guest puts into the queues of its balloon.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| devices::testing::fuzz::balloon_pages(data));
