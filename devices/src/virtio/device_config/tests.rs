use super::*;

fn config() -> DeviceConfig {
    DeviceConfig::new(&[1, 2, 3, 4, 5, 6, 7, 8], std::slice::from_ref(&(4..8)))
}

fn read(config: &mut DeviceConfig, offset: usize) -> [u8; 4] {
    let mut data = [0xaa; 4];
    config.read(offset, &mut data);
    data
}

#[test]
fn reads_zero_beyond_the_end() {
    let mut config = config();
    assert_eq!(read(&mut config, 6), [7, 8, 0, 0]);
    assert_eq!(read(&mut config, usize::MAX - 4), [0; 4]);
}

#[test]
fn driver_writes_only_its_bytes() {
    let mut config = config();
    assert!(config.write(4, &[9, 9]));
    assert!(!config.write(0, &[9; 8]));
    assert_eq!(config.bytes(), [1, 2, 3, 4, 9, 9, 9, 9]);
    assert!(!config.write(8, &[0]));
    assert!(!config.write(usize::MAX - 1, &[0]));
}

#[test]
fn device_leaves_the_drivers_bytes() {
    let mut config = config();
    config.write(4, &[9; 4]);
    assert!(config.publish(&[7; 8]));
    assert_eq!(config.bytes(), [7, 7, 7, 7, 9, 9, 9, 9]);
    assert!(!config.publish(&[7; 8]));
    config.replace(&[0; 8]);
    assert_eq!(config.bytes(), [0; 8]);
}

/// A driver that reads generation, value, generation sees a difference whenever the value may be torn, however many
/// changes there were in between.
#[test]
fn generation_shows_every_torn_read() {
    for changes in [1_u32, 255, 256, 257, 65_536] {
        let mut config = config();
        let before = config.generation();
        let low = read(&mut config, 0);
        for change in 0..changes {
            let [a, b, c, _] = (change + 100).to_le_bytes();
            config.publish(&[a, b, c, 1, 0, 0, 0, 0]);
        }
        assert_ne!(read(&mut config, 0), low);
        assert_ne!(config.generation(), before, "{changes} changes");
    }
}

#[test]
fn generation_stays_without_a_change() {
    let mut config = config();
    let before = config.generation();
    config.write(4, &[0; 4]);
    config.publish(&[1, 2, 3, 4, 0, 0, 0, 0]);
    assert_eq!(config.generation(), before);
}
