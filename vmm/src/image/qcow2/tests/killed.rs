//! SIGKILL amid requests: another process writes, and this one kills it and looks at what is left.

use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

use super::*;

/// Where the writer finds its image; without it, the test that is the writer does nothing.
const IMAGE: &str = "BALLAST_TEST_KILLED_IMAGE";
const ROUNDS: u64 = 6;
const CLUSTER: usize = 4096;

/// Writes, discards and zeroes in circles, and says after each flush how far it is.
#[test]
fn writer() {
    let Some(path) = std::env::var_os(IMAGE) else {
        return;
    };
    let mut image = open(Path::new(&path), false);
    for round in 0_u64.. {
        let byte = u8::try_from(round % 250 + 1).unwrap();
        // What is flushed stays alone; the rest is there to keep the tables moving.
        write(&mut *image, round % 64 * 8192, &[byte; 8192]);
        for step in 0..40 {
            let at = (1 << 20) + (round * 40 + step) * 28_672 % (3 << 20) / 512 * 512;
            let len = 36_864.min(SIZE - at);
            match step % 4 {
                0 => image.discard(at, len).unwrap(),
                1 => image.write_zeroes(at, len, step % 8 == 1).unwrap(),
                _ => write(&mut *image, at, &vec![byte; usize::try_from(len).unwrap()]),
            }
        }
        image.flush().unwrap();
        println!("flushed {round}");
    }
}

#[test]
fn a_killed_writer_loses_nothing_that_it_flushed() {
    let directory = TempDir::new().unwrap();
    for number in 0..ROUNDS {
        let path = directory.path().join(format!("disk{number}"));
        create(&path, CLUSTER, None);
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "image::qcow2::tests::killed::writer", "--nocapture"])
            .env(IMAGE, &path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = child.stdout.take().unwrap();
        // At least one flush, and then some moment.
        let mut text = Vec::new();
        while !text.ends_with(b"flushed 1\n") {
            let mut byte = [0];
            output.read_exact(&mut byte).unwrap();
            text.extend(byte);
        }
        std::thread::sleep(std::time::Duration::from_micros(number * 7_300 + 100));
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(9));
        output.read_to_end(&mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        let last = text
            .lines()
            .filter_map(|line| line.strip_prefix("flushed "))
            .next_back();
        let last: u64 = last.unwrap().parse().unwrap();
        sound::leaks(&path);
        let mut image = open(&path, false);
        for round in last.saturating_sub(63)..=last {
            let byte = u8::try_from(round % 250 + 1).unwrap();
            let there = read(&mut *image, round % 64 * 8192, 8192);
            // The next round but the last flushed one may have begun to write over the oldest.
            let fresh = u8::try_from((last + 1) % 250 + 1).unwrap();
            let fine = |sector: &[u8]| sector.iter().all(|there| *there == byte || *there == fresh);
            assert!(there.chunks(512).all(fine), "round {round} of {last} is lost");
        }
        drop(image);
        sound::leaks(&path);
    }
}
