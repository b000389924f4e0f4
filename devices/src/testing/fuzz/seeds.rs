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

/// The same for a driver with every feature.
fn balloon_with_all(operations: &[&[u8]]) -> Vec<u8> {
    [&[1, 0x3f][..], &operations.concat()].concat()
}

/// From here on operations are on the statistics and reporting queues; [`DEFLATE`] names the second of them.
const OTHER_QUEUES: u8 = 0x6d;
/// In front of every operation on the reporting queue.
const REPORT: u8 = 0x80;
/// Asks for statistics.
const ASK: u8 = 0x6e;

/// A free page at a guest address.
fn report(address: u64, length: u32, index: u8) -> Vec<u8> {
    [
        &[0x22 | REPORT][..],
        &address.to_le_bytes(),
        &length.to_le_bytes(),
        &[index, 0],
    ]
    .concat()
}

/// Writes configuration: the claim in pages, and the poison.
fn configure(actual: u32, poison: u32) -> Vec<u8> {
    let fields = [0, actual, 0, poison].map(u32::to_le_bytes);
    [&[0x64][..], &fields.concat()].concat()
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
        ("actual-max", balloon(&[&configure(u32::MAX, 0), serve])),
        (
            "reset-in-between",
            balloon(&[&pfns(0, &[512]), &first, &[0x68, 3], serve, &first, serve]),
        ),
    ]
    .into_iter()
    .chain(statistics_seeds())
    .chain(reporting_seeds())
    .collect()
}

fn statistics_seeds() -> Vec<Seed> {
    let serve: &[u8] = &[SERVE];
    let (other, ask): (&[u8], &[u8]) = (&[OTHER_QUEUES], &[ASK]);
    let first = offer(0, 0);
    let one =
        |operation: &[u8]| balloon_with_all(&[other, operation, &first, serve, ask, serve, &first, serve]);
    vec![
        ("stats-length-max", one(&describe_far(0x1_0000, u32::MAX))),
        ("stats-length-one-too-many", one(&describe(0, 2570, 0, 0))),
        ("stats-all-entries", one(&describe(0, 2560, 0, 0))),
        ("stats-odd-length", one(&describe(0, 13, 0, 0))),
        ("stats-empty", one(&describe(0, 0, 0, 0))),
        ("stats-writable", one(&describe(0, 10, 2, 0))),
        ("stats-chain-to-itself", one(&describe(0, 10, 1, 0))),
        ("stats-outside", one(&describe_far((8 << 20) - 5, 10))),
        (
            "stats-two-buffers",
            balloon_with_all(&[
                other,
                &describe(0, 10, 0, 0),
                &describe(1, 20, 0, 0),
                &first,
                &offer(0, 1),
                serve,
                &first,
                serve,
            ]),
        ),
        (
            "stats-head-out-of-table",
            balloon_with_all(&[other, &offer(0, 16), serve, ask, serve]),
        ),
        (
            "stats-asked-before-there-are-any",
            balloon_with_all(&[ask, serve, other, &first, serve]),
        ),
        // Tag 10, OOM kills: none, then the most there can be, for a balloon that listens to distress.
        (
            "stats-distress",
            [
                &[9, 0x3f][..],
                &[0x6f, 0, 2],
                &[OTHER_QUEUES],
                &[0x28, 3, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
                &describe(0, 10, 0, 0),
                &first,
                serve,
                &[
                    0x28, 3, 10, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0,
                ],
                &describe(0, 10, 0, 0),
                &first,
                serve,
            ]
            .concat(),
        ),
    ]
}

fn reporting_seeds() -> Vec<Seed> {
    let serve: &[u8] = &[SERVE];
    let other: &[u8] = &[OTHER_QUEUES];
    let first = offer(REPORT, 0);
    let one = |operation: &[u8]| balloon_with_all(&[other, operation, &first, serve, &first, serve]);
    let page = 0x20_0000;
    vec![
        ("report-a-page", one(&report(page, 4096, 0))),
        ("report-crosses-the-end", one(&report((8 << 20) - 4096, 8192, 0))),
        ("report-outside", one(&report(0xc000_0000, 4096, 0))),
        ("report-address-wraps", one(&report(u64::MAX - 4095, 8192, 0))),
        ("report-length-max", one(&report(page, u32::MAX, 0))),
        ("report-length-zero", one(&report(page, 0, 0))),
        ("report-ends-inside-pages", one(&report(page + 1, 8190, 0))),
        (
            "report-readable",
            one(&[&[0x20 | REPORT][..], &report(page, 4096, 0)[1..]].concat()),
        ),
        ("report-own-rings", one(&report(0, 0x8000, 0))),
        (
            "report-with-poison",
            balloon_with_all(&[
                other,
                &configure(0, 0xaaaa_aaaa),
                &report(page, 4096, 0),
                &first,
                serve,
                &configure(0, 0),
                &first,
                serve,
            ]),
        ),
        (
            "report-and-inflate-halves",
            balloon_with_all(&[
                &pfns(0, &[512, 513]),
                &offer(0, 0),
                other,
                &report(page + 8192, 8192, 0),
                &first,
                serve,
            ]),
        ),
        // The same index is another queue without statistics.
        (
            "report-without-statistics",
            [&[1, 0x20][..], other, &report(page, 4096, 0), &first, serve].concat(),
        ),
    ]
}

/// One write of [`super::virtio_registers`]: `width` is 1, 2, 4 or 8 bytes.
fn write(offset: u16, width: u8, value: u64) -> Vec<u8> {
    let code = u8::try_from(width.trailing_zeros()).unwrap();
    [&[0x80 | code][..], &offset.to_le_bytes(), &value.to_le_bytes()].concat()
}

/// One write into configuration space.
fn config(offset: u16, width: u8, value: u64) -> Vec<u8> {
    let code = u8::try_from(width.trailing_zeros()).unwrap();
    [&[4 << 2 | code][..], &offset.to_le_bytes(), &value.to_le_bytes()].concat()
}

/// A write of [`super::virtio_registers`] into the rings, which begin at 0x1000 in `register_seeds`.
fn in_ring(offset: u16, value: u64, width: u8) -> Vec<u8> {
    let code = u8::try_from(width.trailing_zeros()).unwrap();
    [&[7 << 2 | code][..], &offset.to_le_bytes(), &value.to_le_bytes()].concat()
}

/// A kick by doorbell.
fn kick(queue: u16) -> Vec<u8> {
    [&[6 << 2][..], &queue.to_le_bytes(), &[0; 8]].concat()
}

/// A reset of the machine.
fn reset() -> Vec<u8> {
    [&[0x80 | 7 << 2][..], &[0; 10]].concat()
}

/// Starting points for [`super::virtio_registers`].
pub fn register_seeds() -> Vec<Seed> {
    let ready = [
        // Decode memory, so that there are doorbells.
        config(4, 2, 6),
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
            "kicks-between-registers",
            after(&[
                in_ring(0x0, 0x1_0000, 8),
                in_ring(0x8, 1024, 8),
                in_ring(0x1002, 1, 2),
                kick(0),
                write(0x18, 2, 1),
                kick(0),
                in_ring(0x1002, 0xffff, 2),
                kick(0),
                write(0x20, 8, 0x5000),
                write(0x14, 1, 0),
                kick(0),
                write(0x14, 1, 15),
            ]),
        ),
        (
            "machine-reset-amid-kicks",
            after(&[
                in_ring(0x1002, 1, 2),
                kick(0),
                reset(),
                kick(0),
                ready.clone(),
                kick(0),
            ]),
        ),
        (
            "poison-and-claim",
            after(&[
                write(0x2004, 4, 0xffff_ffff),
                write(0x200c, 4, 0xaaaa_aaaa),
                write(0x2008, 4, 7),
                write(0x2000, 8, u64::MAX),
            ]),
        ),
        (
            "ready-at-once",
            [write(0x14, 1, 15), write(0x3000, 2, 0)].concat(),
        ),
    ]
}

/// Starting points for [`super::device_queues`]: what choosing a device takes, then operations.
pub fn queue_seeds() -> Vec<Seed> {
    let describe = |index: u8, flags: u8, length: u16, next: u8| {
        let [l0, l1] = length.to_le_bytes();
        vec![flags, index, 0, 0, 0, l0, l1, next, 0]
    };
    let far = |address: u64, length: u32| {
        let (address, length) = (address.to_le_bytes(), length.to_le_bytes());
        [&[0x32, 0, 0][..], &address, &length, &[0, 0]].concat()
    };
    let (first, jump, reset, time) = ([0x40, 0, 0], [0x70, 0xff, 0xff], [0xa0, 0], [0xa8]);
    let serve = [0xff];
    let put = |at: u16, value: u64| {
        let [a0, a1] = at.to_le_bytes();
        [&[0x78, a0, a1][..], &value.to_le_bytes()].concat()
    };
    let near = |index: u8, flags: u8, at: u16, length: u16, next: u8| {
        let ([a0, a1], [l0, l1]) = (at.to_le_bytes(), length.to_le_bytes());
        vec![flags, index, 0, a0, a1, l0, l1, next, 0]
    };
    // A request of three descriptors: header at 0, data at 4096, status at 64.
    let request = |kind: u64, sector: u64, flags: u8, length: u16| {
        let header = [put(0, kind), put(8, sector), near(0, 1, 0, 16, 1)].concat();
        let rest = [near(1, flags | 1, 4096, length, 2), near(2, 2, 64, 1, 0)].concat();
        [&header[..], &rest, &first, &serve].concat()
    };
    // A discard or zeros: sector, then number of sectors and flags.
    let range = |kind: u64, sector: u64, rest: u64| {
        [put(4096, sector), put(4104, rest), request(kind, 0, 0, 16)].concat()
    };
    // A packet of a guest's that is sent, its header and then its bytes.
    let socket = |op: u64, len: u64, length: u16| {
        let kind = 1;
        let words = [3, 2, 1024 | 4 << 32, len | kind << 32 | op << 48, 1 << 48, 0];
        let header: Vec<u8> = (0..)
            .step_by(8)
            .zip(words)
            .flat_map(|(at, word)| put(at, word))
            .collect();
        [&header[..], &near(0, 0, 0, length, 0), &first, &serve].concat()
    };
    let rng = |choice: u8, parts: &[&[u8]]| [&[choice], &parts.concat()[..]].concat();
    vec![
        (
            "rng-one-buffer",
            rng(0, &[&describe(0, 2, 64, 0), &first, &serve]),
        ),
        (
            "rng-length-max",
            rng(0, &[&far(0x1_0000, u32::MAX), &first, &serve]),
        ),
        (
            "rng-end-of-ram",
            rng(0, &[&far((8 << 20) - 4, 100), &first, &serve]),
        ),
        (
            "rng-address-wraps",
            rng(0, &[&far(u64::MAX - 4, 100), &first, &serve]),
        ),
        (
            "rng-own-rings",
            rng(0, &[&far(0x1000, 600), &first, &serve, &serve]),
        ),
        ("rng-readable", rng(0, &[&describe(0, 0, 64, 0), &first, &serve])),
        (
            "rng-empty-to-itself",
            rng(4, &[&describe(0, 3, 0, 0), &first, &serve]),
        ),
        ("rng-indirect", rng(0, &[&describe(0, 4, 64, 0), &first, &serve])),
        ("rng-index-jumps", rng(0, &[&jump, &serve])),
        (
            "rng-limit",
            rng(
                3,
                &[
                    &describe(0, 2, 512, 0),
                    &first,
                    &first,
                    &first,
                    &serve,
                    &time,
                    &serve,
                ],
            ),
        ),
        (
            "blk-write-then-read",
            rng(
                8,
                &[&put(4096, 7), &request(1, 3, 0, 512), &request(0, 3, 2, 512)],
            ),
        ),
        ("blk-flush", rng(8, &[&request(4, 0, 0, 0)])),
        ("blk-id", rng(8, &[&request(8, 0, 2, 20)])),
        ("blk-discard", rng(8, &[&range(11, 8, 8)])),
        ("blk-zeros-unmap", rng(8, &[&range(13, 8, 1 << 32 | 8)])),
        ("blk-zeros-far", rng(8, &[&range(13, u64::MAX / 512, 8)])),
        ("blk-zeros-many", rng(8, &[&range(13, 0, 0xffff_ffff)])),
        (
            "blk-read-only",
            rng(9, &[&request(1, 0, 0, 512), &range(13, 0, 8)]),
        ),
        (
            "blk-beyond-the-end",
            rng(8, &[&request(0, 63, 2, 1024), &request(0, u64::MAX, 2, 512)]),
        ),
        ("blk-half-a-sector", rng(8, &[&request(0, 0, 2, 100)])),
        (
            "blk-status-alone",
            rng(8, &[&near(0, 2, 64, 1, 0), &first, &serve]),
        ),
        (
            "blk-header-alone",
            rng(8, &[&near(0, 0, 0, 16, 0), &first, &serve]),
        ),
        ("blk-to-itself", rng(8, &[&near(0, 1, 0, 16, 0), &first, &serve])),
        (
            "blk-wrong-way-round",
            rng(8, &[&near(0, 3, 0, 16, 1), &near(1, 0, 0, 16, 0), &first, &serve]),
        ),
        (
            "blk-own-rings",
            rng(8, &[&request(0, 0, 2, 512), &far(0x1000, 512), &first, &serve]),
        ),
        (
            "rng-reset-in-between",
            rng(
                3,
                &[&describe(0, 2, 512, 0), &first, &serve, &reset, &first, &serve],
            ),
        ),
        // A console: 0x20 to receive, 0x21 to send, 2 more for an outlet that takes little.
        (
            "console-receive",
            rng(0x20, &[&near(0, 2, 0, 700, 0), &[first; 8].concat(), &serve]),
        ),
        (
            "console-receive-readable",
            rng(0x20, &[&near(0, 0, 0, 9, 0), &first, &serve]),
        ),
        (
            "console-send-slowly",
            rng(
                0x23,
                &[
                    &near(0, 0, 0, 1500, 0),
                    &first,
                    &serve,
                    &time,
                    &serve,
                    &first,
                    &serve,
                    &time,
                    &serve,
                ],
            ),
        ),
        (
            "console-send-too-long",
            rng(0x21, &[&far(0x1_0000, 65537), &first, &serve]),
        ),
        (
            "console-send-to-itself",
            rng(0x21, &[&near(0, 1, 0, 1, 0), &first, &serve]),
        ),
        // Sockets: 0x40 to transmit, 0x42 to receive what programs that call cause.
        ("vsock-request", rng(0x40, &[&socket(1, 0, 44)])),
        (
            "vsock-bytes",
            rng(
                0x40,
                &[&socket(1, 0, 44), &socket(5, 100, 144), &socket(4, 0, 44)],
            ),
        ),
        ("vsock-reset", rng(0x40, &[&socket(1, 0, 44), &socket(3, 0, 44)])),
        ("vsock-nobody", rng(0x40, &[&socket(5, 0, 44), &socket(2, 0, 44)])),
        (
            "vsock-too-long",
            rng(0x40, &[&socket(1, 0, 44), &socket(5, 65537, 60000)]),
        ),
        (
            "vsock-too-short",
            rng(0x40, &[&socket(1, 0, 43), &socket(5, 200, 100)]),
        ),
        (
            "vsock-called",
            rng(
                0x42,
                &[&near(0, 2, 0, 4096, 0), &[first; 4].concat(), &serve, &serve],
            ),
        ),
        (
            "vsock-called-in-pieces",
            rng(
                0x42,
                &[
                    &near(0, 3, 0, 10, 1),
                    &near(1, 2, 64, 40, 0),
                    &first,
                    &serve,
                    &first,
                    &serve,
                ],
            ),
        ),
        (
            "vsock-answered-byte-by-byte",
            rng(
                0x42,
                &[&near(0, 2, 0, 45, 0), &[first; 16].concat(), &serve, &serve],
            ),
        ),
        // A network card: 0x10 to receive, 0x11 to send, 2 more for a driver that accepts nothing.
        (
            "net-receive-merged",
            rng(
                0x10,
                &[
                    &near(0, 2, 0, 700, 0),
                    &first,
                    &near(1, 2, 1024, 700, 0),
                    &[0x40, 1, 0],
                    &serve,
                    &serve,
                ],
            ),
        ),
        (
            "net-receive-byte-by-byte",
            rng(
                0x10,
                &[&near(0, 2, 0, 1, 0), &[first; 16].concat(), &serve, &serve],
            ),
        ),
        (
            "net-receive-at-once",
            rng(
                0x12,
                &[
                    &far(0x1_0000, u32::MAX),
                    &first,
                    &serve,
                    &[0xa0, 0x12],
                    &first,
                    &serve,
                ],
            ),
        ),
        (
            "net-receive-readable",
            rng(0x10, &[&near(0, 0, 0, 700, 0), &first, &serve]),
        ),
        (
            "net-send-in-pieces",
            rng(
                0x11,
                &[
                    &near(0, 1, 0, 12, 1),
                    &near(1, 1, 12, 0, 2),
                    &near(2, 0, 12, 1500, 0),
                    &first,
                    &serve,
                ],
            ),
        ),
        (
            "net-send-too-short",
            rng(0x11, &[&near(0, 0, 0, 25, 0), &first, &serve]),
        ),
        (
            "net-send-too-long",
            rng(
                0x11,
                &[
                    &far(0x1_0000, 65_571),
                    &first,
                    &far(0x1_0000, u32::MAX),
                    &first,
                    &serve,
                ],
            ),
        ),
        (
            "net-send-to-itself",
            rng(0x11, &[&near(0, 1, 0, 100, 0), &first, &serve]),
        ),
        ("net-index-jumps", rng(0x11, &[&jump, &serve])),
    ]
}
