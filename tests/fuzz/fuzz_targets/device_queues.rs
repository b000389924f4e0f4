//! What a guest puts into the queues of a device.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| devices::testing::fuzz::device_queues(data));
