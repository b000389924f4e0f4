//! What a daemon answers that serves a device (vhost-user).
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| devices::testing::fuzz::daemon_answers(data));
