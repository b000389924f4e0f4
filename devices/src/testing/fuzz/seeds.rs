//! Inputs worth starting from: what has gone wrong in balloons and transports before, ours or others'.

/// A name, and the bytes for the fuzz entry.
pub type Seed = (&'static str, Vec<u8>);

/// Serves both queues.
const SERVE: u8 = 0x70;
/// In front of every operation on the deflate queue.
const DEFLATE: u8 = 0x80;

/// Operations of [`super::balloon_pages`], after the two bytes for features and queues.
fn balloon(operations: &[&[u8]]) -> Vec<u8> {
    [&[1, 7][..], &operations.concat()].concat()
}

fn describe(index: u16, length: u16, flags: u8, next: u16) -> Vec<u8> {
    let [l0, l1] = length.to_le_bytes();
    let [i, n] = [index, next].map(u16::to_le_bytes);
    vec![0, i[0], i[1], 0, 0, l0, l1, flags, n[0], n[1]]
}

fn describe_far(address: u64, length: u32) -> Vec<u8> {
    [
        &[0x20][..],
        &address.to_le_bytes(),
        &length.to_le_bytes(),
        &[0, 0],
    ]
    .concat()
}

fn pfns(queue: u8, numbers: &[u32]) -> Vec<u8> {
    let count = u8::try_from(numbers.len()).unwrap();
    let numbers: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    [&[0x28 | queue, count][..], &numbers, &[0, 0, 0, 0]].concat()
}

fn offer(queue: u8, head: u16) -> Vec<u8> {
    let [low, high] = head.to_le_bytes();
    vec![0x40 | queue, low, high]
}

/// Starting points for [`super::balloon_pages`].
pub fn balloon_seeds() -> Vec<Seed> {
    let serve: &[u8] = &[SERVE];
    let first = offer(0, 0);
    let one = |operation: &[u8]| balloon(&[operation, &first, serve, serve]);
    vec![
        ("length-4278321152", one(&describe_far(0x1_0000, 4_278_321_152))),
        ("length-1g", one(&describe_far(0x1_0000, 1 << 30))),
        ("length-max", one(&describe_far(0x1_0000, u32::MAX))),
        ("length-odd", one(&describe(0, 5, 0, 0))),
        ("length-zero", one(&describe(0, 0, 0, 0))),
        ("address-wraps", one(&describe_far(u64::MAX - 3, 8))),
        ("address-mmio", one(&describe_far(0xc000_3000, 4))),
        ("address-last-bytes", one(&describe_far((8 << 20) - 4, 8))),
        ("writable-buffer", one(&describe(0, 8, 2, 0))),
        ("indirect-table", one(&describe(0, 32, 4, 0))),
        ("chain-to-itself", one(&describe(0, 4, 1, 0))),
        ("chain-out-of-table", one(&describe(0, 4, 1, 17))),
        (
            "split-array",
            balloon(&[&describe(0, 4, 1, 1), &describe(1, 4, 0, 0), &first, serve]),
        ),
        ("head-out-of-table", balloon(&[&offer(0, 16), serve, serve])),
        ("index-jumps", balloon(&[&[0x60, 0xff, 0xff], serve, serve])),
        ("index-jumps-by-one-too-many", balloon(&[&[0x60, 17, 0], serve])),
        ("more-than-ram", one(&pfns(0, &[2047, 2048, 4095, u32::MAX]))),
        (
            "inflate-deflate-inflate",
            balloon(&[
                &pfns(0, &[512, 513]),
                &first,
                serve,
                &pfns(DEFLATE, &[512]),
                &offer(DEFLATE, 0),
                serve,
                &pfns(0, &[514]),
                &first,
                serve,
            ]),
        ),
        (
            "own-rings",
            balloon(&[&pfns(0, &[0, 1, 2, 3]), &first, serve, &first, serve]),
        ),
        (
            "actual-max",
            balloon(&[&[0x64, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff], serve]),
        ),
        (
            "reset-in-between",
            balloon(&[&pfns(0, &[512]), &first, &[0x68, 3], serve, &first, serve]),
        ),
    ]
}

/// One write of [`super::virtio_registers`]: `width` is 1, 2, 4 or 8 bytes.
fn write(offset: u16, width: u8, value: u64) -> Vec<u8> {
    let code = u8::try_from(width.trailing_zeros()).unwrap();
    [&[0x80 | code][..], &offset.to_le_bytes(), &value.to_le_bytes()].concat()
}

/// Starting points for [`super::virtio_registers`].
pub fn register_seeds() -> Vec<Seed> {
    let ready = [
        write(0x14, 1, 1),
        write(0x14, 1, 3),
        write(0x08, 4, 1),
        write(0x0c, 4, 1),
        write(0x14, 1, 11),
        write(0x16, 2, 0),
        write(0x20, 8, 0x1000),
        write(0x28, 8, 0x2000),
        write(0x30, 8, 0x3000),
        write(0x1c, 2, 1),
        write(0x14, 1, 15),
    ]
    .concat();
    let after = |more: &[Vec<u8>]| [&ready[..], &more.concat()].concat();
    vec![
        (
            "queue-size-after-start",
            after(&[write(0x18, 2, 0), write(0x18, 2, 0x8000), write(0x3000, 2, 0)]),
        ),
        (
            "queue-moves-after-start",
            after(&[write(0x20, 8, 0xffff_f000), write(0x3000, 2, 0)]),
        ),
        (
            "queue-off-after-start",
            after(&[write(0x1c, 2, 0), write(0x3000, 2, 0)]),
        ),
        ("start-twice", after(&[write(0x14, 1, 15), write(0x14, 1, 15)])),
        (
            "reset-storm",
            after(&[
                write(0x14, 1, 0),
                write(0x14, 1, 1),
                write(0x14, 1, 0),
                ready.clone(),
            ]),
        ),
        (
            "select-out-of-range",
            after(&[write(0x16, 2, 0xffff), write(0x1a, 2, 1), write(0x18, 2, 1)]),
        ),
        (
            "vector-out-of-range",
            after(&[
                write(0x10, 2, 0xfffe),
                write(0x1a, 2, 3),
                write(0x4000, 8, u64::MAX),
            ]),
        ),
        (
            "config-write-at-the-end",
            after(&[write(0x2ff8, 8, u64::MAX), write(0x2fff, 1, 1)]),
        ),
        (
            "ready-at-once",
            [write(0x14, 1, 15), write(0x3000, 2, 0)].concat(),
        ),
    ]
}
