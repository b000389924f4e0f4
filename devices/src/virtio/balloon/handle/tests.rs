use vmm_sys_util::eventfd::EFD_NONBLOCK;

use super::*;

fn handle(ram: ByteSize) -> BalloonHandle {
    let event = EventFd::new(EFD_NONBLOCK).unwrap();
    BalloonHandle::new(Arc::new(Shared::new("balloon0".into(), ram, event)))
}

#[test]
fn target_is_clamped_to_ram_and_never_zero() {
    let ram = ByteSize::from_bytes(512 << 20);
    let handle = handle(ram);
    assert_eq!(handle.target(), ram);
    assert_eq!(handle.shared.pages_wanted(), 0);
    handle.set_target(ByteSize::from_bytes(666 << 20)).unwrap();
    assert_eq!(handle.target(), ram);
    handle.set_target(ByteSize::from_bytes(256 << 20)).unwrap();
    assert_eq!(handle.shared.pages_wanted(), 65536);
    assert!(handle.set_target(ByteSize::from_bytes(0)).is_err());
    assert_eq!(handle.target(), ByteSize::from_bytes(256 << 20));
    handle.set_target(ByteSize::from_bytes(u64::MAX)).unwrap();
    assert_eq!(handle.target(), ram);
    assert_eq!(handle.shared.event.read().unwrap(), 3);
}

/// Sizes whose page count does not fit into the 32-bit register are asked for as far as it goes.
#[test]
fn wanted_pages_saturate() {
    let handle = handle(ByteSize::from_bytes(1 << 50));
    handle.set_target(ByteSize::from_bytes(1)).unwrap();
    assert_eq!(handle.shared.pages_wanted(), u32::MAX);
}

#[test]
fn actual_never_underflows() {
    let handle = handle(ByteSize::from_bytes(1 << 20));
    handle.shared.claimed.store(u64::MAX, Ordering::Relaxed);
    assert_eq!(handle.actual(), ByteSize::from_bytes(0));
}
