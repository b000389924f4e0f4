use super::*;

const SAID: &str = "\
stress-ng: info:  [80] dispatching hogs: 1 mlock
stress-ng: metrc: [80] stressor       bogo ops real time  usr time  sys time   bogo ops/s     bogo ops/s CPU used per       RSS Max
stress-ng: metrc: [80]                           (secs)    (secs)    (secs)   (real time) (usr+sys time) instance (%)          (KB)
stress-ng: metrc: [80] mlock              3073      1.48      0.00      0.19      2074.62       16057.65        12.92        148856
stress-ng: metrc: [80] malloc            15113      2.25      0.42      1.83      6706.12        6708.80        99.96         62504
stress-ng: metrc: [80] miscellaneous metrics:
stress-ng: metrc: [80] mlock              29668.95 nanosecs per mlock call (geometic mean of 1 instances)
stress-ng: metrc: [80] remap             145795.71 nanosecs per page remap (geometic mean of 1 instances)
";

#[test]
fn rates_are_found_and_nothing_is_none() {
    let [malloc, mlock, remap] = &STRESSORS;
    assert_eq!(rate(SAID, malloc), Some(6706.12));
    assert_eq!(rate(SAID, mlock), Some(2074.62));
    assert_eq!(rate(SAID, remap), Some(1e9 / 145_795.71));
    assert_eq!(rate(&SAID.replace("145795.71", "0.00"), remap), None);
    assert_eq!(rate("", malloc), None);
}
