//! What a guest does to the registers and the configuration space of a virtio device.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| devices::testing::fuzz::virtio_registers(data));
