//! With daemons that are wrong, silent, or gone.

use std::io::{Read, Write};

use super::*;

/// Somebody at a socket who does `what` with each connection.
fn daemon(
    directory: &Path,
    what: impl FnOnce(UnixStream) + Send + 'static,
) -> (PathBuf, thread::JoinHandle<()>) {
    let path = directory.join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let thread = thread::spawn(move || what(listener.accept().unwrap().0));
    (path, thread)
}

#[test]
fn nobody_there_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let dial = Box::new(Socket(directory.path().join("nobody")));
    let error = Introduced::new(spec(None), dial).unwrap_err();
    assert!(matches!(error, VhostUserError::Connect(_)));
}

#[test]
fn silence_ends_in_time() {
    let directory = tempfile::tempdir().unwrap();
    // Takes every request and answers none, until we are gone.
    let (path, thread) = daemon(directory.path(), |mut stream| {
        let _ = io::copy(&mut stream, &mut io::sink());
    });
    let before = Instant::now();
    let error = Introduced::new(spec(None), Box::new(Socket(path))).unwrap_err();
    assert!(matches!(error, VhostUserError::Timeout { .. }), "{error}");
    assert!(before.elapsed() < 4 * link::LIMIT);
    thread.join().unwrap();
}

/// Reads one request and returns its number; `None` at the end.
fn request(stream: &mut UnixStream) -> Option<u32> {
    let mut header = [0; 12];
    stream.read_exact(&mut header).ok()?;
    let word = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().unwrap());
    let mut payload = vec![0; word(8).min(4096) as usize];
    stream.read_exact(&mut payload).ok()?;
    Some(word(0))
}

/// An answer to `request`.
pub(super) fn answer(request: u32, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).unwrap();
    let header = [request, 5, len].map(u32::to_le_bytes).concat();
    [&header, payload].concat()
}

const GET_FEATURES: u32 = 1;
const GET_PROTOCOL_FEATURES: u32 = 15;
const GET_QUEUE_NUM: u32 = 17;

/// Why a daemon that offers `features`, and as many queues if it says, is no device of `spec`.
fn offers(features: u64, queues: Option<u64>, spec: VhostUserSpec) -> VhostUserError {
    let directory = tempfile::tempdir().unwrap();
    let (path, thread) = daemon(directory.path(), move |mut stream| {
        while let Some(number) = request(&mut stream) {
            let value = match number {
                GET_FEATURES => features,
                GET_PROTOCOL_FEATURES => queues.is_some().into(),
                GET_QUEUE_NUM => queues.unwrap(),
                _ => continue,
            };
            stream.write_all(&answer(number, &value.to_le_bytes())).unwrap();
        }
    });
    let error = Introduced::new(spec, Box::new(Socket(path))).unwrap_err();
    thread.join().unwrap();
    error
}

#[test]
fn what_is_needed_and_missing_is_named() {
    const PROTOCOL: u64 = 1 << 30;
    for (features, missing) in [
        (F_VERSION_1 | F_EVENT_IDX, "protocol features"),
        (PROTOCOL | F_EVENT_IDX, "virtio 1"),
        (PROTOCOL | F_VERSION_1, "EVENT_IDX"),
        (PROTOCOL | F_VERSION_1 | F_EVENT_IDX, "configuration"),
    ] {
        let error = offers(features, None, spec(None)).to_string();
        assert!(error.contains(missing), "{error}");
    }
    let all = PROTOCOL | F_VERSION_1 | F_EVENT_IDX;
    let one = offers(all, Some(1), network::card()).to_string();
    assert!(one.contains("two queues"), "{one}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever a daemon answers ends in a device or in an error, and soon.
    #[test]
    fn answers_of_any_kind_end_soon(
        answers in proptest::collection::vec(
            (any::<bool>(), proptest::collection::vec(any::<u8>(), 0..100)), 0..12),
    ) {
        let directory = tempfile::tempdir().unwrap();
        let (path, thread) = daemon(directory.path(), move |mut stream| {
            for (well_formed, payload) in answers {
                let Some(number) = request(&mut stream) else {
                    return;
                };
                let bytes = match well_formed {
                    true => answer(number, &payload),
                    false => payload,
                };
                if stream.write_all(&bytes).is_err() {
                    return;
                }
            }
        });
        let before = Instant::now();
        let _ = Introduced::new(spec(None), Box::new(Socket(path)));
        prop_assert!(before.elapsed() < 4 * link::LIMIT);
        thread.join().unwrap();
    }
}
