use super::*;

#[test]
fn a_series_is_found_again_and_damage_is_seen() {
    // Not on tmpfs: it knows no O_DIRECT before Linux 6.6.
    let file = tempfile::NamedTempFile::new_in(env!("CARGO_MANIFEST_DIR")).expect("a file");
    file.as_file().set_len(64 << 12).expect("room");
    let path = file.path().to_str().expect("a name");
    let series = Series {
        seed: 7,
        block: 4096,
        count: 50,
        every: 20,
    };
    let mut flushed = Vec::new();
    series
        .write(path, |count| {
            flushed.push(count);
            Ok(())
        })
        .expect("written");
    assert_eq!(flushed, [20, 40, 50]);
    assert!(series.verify(path).expect("read").is_empty());
    let slot = series.slot(49, 64);
    file.as_file()
        .write_all_at(&[0; 1], (slot << 12) + 100)
        .expect("damaged");
    assert_eq!(series.verify(path).expect("read"), [slot]);
    let other = Series { seed: 8, ..series };
    assert!(other.verify(path).expect("read").len() > 20);
    for (writes, random) in [(false, false), (false, true), (true, false), (true, true)] {
        let load = Load {
            writes,
            random,
            block: 8192,
            threads: 2,
            milliseconds: 100,
        };
        let done = load.run(path).expect("done");
        assert!(
            done.blocks > 0 && done.took >= Duration::from_millis(100),
            "{done:?}"
        );
        assert_eq!(
            Done::parse(&done.to_string()).map(|read| read.blocks),
            Some(done.blocks)
        );
    }
}

#[test]
fn words_come_back() {
    let series = Series {
        seed: 1,
        block: 2,
        count: 3,
        every: 4,
    };
    let words = series.to_string();
    assert_eq!(Series::parse(&words.split(' ').collect::<Vec<_>>()), Some(series));
    for kind in ["read", "write", "randread", "randwrite"] {
        let words = [kind, "4096", "2", "100"];
        let load = Load::parse(&words).expect("a load");
        assert_eq!(load.to_string(), words.join(" "));
    }
    assert_eq!(Load::parse(&["erase", "1", "1", "1"]), None);
}
