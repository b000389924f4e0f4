use vmm_sys_util::eventfd::EFD_NONBLOCK;

use super::*;

fn power() -> (Power, EventFd) {
    let irq = EventFd::new(EFD_NONBLOCK).unwrap();
    (Power::new(irq.try_clone().unwrap()), irq)
}

fn events(power: &Power) -> u32 {
    let mut data = [0xaa; 4];
    power.read(GED_EVENTS, &mut data);
    u32::from_le_bytes(data)
}

#[test]
fn sleep_enable_powers_off() {
    let (power, _) = power();
    assert_eq!(power.write(SLEEP_CONTROL, &[5 << 2]), Action::None);
    assert_eq!(
        power.write(SLEEP_CONTROL, &[5 << 2 | SLEEP_ENABLE]),
        Action::PowerOff
    );
    let mut status = [0xff];
    power.read(SLEEP_STATUS, &mut status);
    assert_eq!(status, [0]);
}

#[test]
fn reset_register_resets() {
    let (power, _) = power();
    assert_eq!(power.write(RESET, &[0]), Action::None);
    assert_eq!(power.write(RESET, &[RESET_VALUE]), Action::Reset);
}

#[test]
fn power_button_is_read_once() {
    let (power, irq) = power();
    assert_eq!(events(&power), 0);
    assert!(irq.read().is_err());
    power.press_power_button().unwrap();
    power.press_power_button().unwrap();
    assert_eq!(irq.read().unwrap(), 2);
    assert_eq!(events(&power), GED_POWER_BUTTON);
    assert_eq!(events(&power), 0);
    power.press_power_button().unwrap();
    power.reset();
    assert_eq!(events(&power), 0);
}

#[test]
fn odd_accesses_do_nothing() {
    let (power, _) = power();
    power.press_power_button().unwrap();
    for offset in 0..POWER_PORTS {
        for len in [1, 2, 4, 8] {
            if (offset, len) != (GED_EVENTS, 4) {
                let mut data = vec![0xaa; len];
                power.read(offset, &mut data);
                assert!(data.iter().all(|byte| *byte == 0));
            }
            if len != 1 {
                assert_eq!(power.write(offset, &vec![0xff; len]), Action::None);
            }
        }
    }
    assert_eq!(events(&power), GED_POWER_BUTTON);
}

#[test]
fn keyboard_reset_takes_one_command() {
    let mut status = [0xff];
    KeyboardReset.read(0, &mut status);
    assert_eq!(status, [0]);
    assert_eq!(KeyboardReset.write(0, &[0xfe]), Action::Reset);
    assert_eq!(KeyboardReset.write(0, &[0xff]), Action::None);
    assert_eq!(KeyboardReset.write(0, &[0xfe, 0xfe]), Action::None);
}
