use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use devices::virtio::VirtioDevice;
use devices::virtio::balloon::F_STATS_VQ;
use memory::backend::BackendKind;
use memory::size::ByteSize;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::testing::{Fake, fake};
use super::*;
use crate::cli::memory_options::ObjectArg;
use crate::cli::{self, Command};

/// A control with a machine, driven by hand.
struct Bench {
    control: Control,
    machine: Fake,
    dir: TempDir,
}

fn config(options: &[String]) -> Config {
    let words = ["ballast", "run", "-kernel", "k"]
        .into_iter()
        .map(str::to_owned)
        .chain(options.iter().cloned());
    let Command::Run(args) = cli::parse(words.map(Into::into)).unwrap() else {
        panic!("another command")
    };
    Config::new(args).unwrap()
}

fn bench() -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let at = |name| format!("unix:{}", dir.path().join(name).display());
    let config = config(&[
        "-qmp".into(),
        at("q"),
        "-qmp".into(),
        at("r"),
        "-monitor".into(),
        at("m"),
    ]);
    Bench {
        control: Control::bind(&config).unwrap(),
        machine: fake(),
        dir,
    }
}

impl Bench {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Serves until nothing is left to do.
    fn settle(&mut self) {
        use rustix::event::{PollFd, PollFlags, poll};
        for _ in 0..100_000 {
            let fd = self.control.fd();
            let mut fds = [PollFd::new(&fd, PollFlags::IN)];
            if poll(&mut fds, Some(&Timespec::default())).unwrap() == 0 {
                return;
            }
            self.control.serve(&mut self.machine);
        }
        panic!("there is always something to do: the main loop would spin");
    }

    fn client(&mut self, name: &str) -> UnixStream {
        let stream = UnixStream::connect(self.path(name)).unwrap();
        stream.set_nonblocking(true).unwrap();
        self.settle();
        stream
    }

    /// Everything that was said to the client, as lines of JSON.
    fn heard(&mut self, client: &UnixStream) -> Vec<Value> {
        self.settle();
        let mut lines = Vec::new();
        let mut reader = BufReader::new(client);
        loop {
            let mut line = String::new();
            match reader.read_line(&mut line) {
                Ok(0) => return lines,
                Ok(_) => lines.push(serde_json::from_str(&line).unwrap()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    assert_eq!(line, "");
                    return lines;
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn say(&mut self, mut client: &UnixStream, text: &str) -> Vec<Value> {
        client.write_all(text.as_bytes()).unwrap();
        self.heard(client)
    }

    fn negotiated(&mut self, name: &str) -> UnixStream {
        let client = self.client(name);
        let lines = self.say(&client, "{'execute': 'qmp_capabilities'}");
        assert_eq!(lines[1..], [json!({ "return": {} })]);
        client
    }

    fn is_closed(&mut self, mut client: &UnixStream) -> bool {
        self.settle();
        let mut rest = Vec::new();
        client.set_nonblocking(true).unwrap();
        match client.read_to_end(&mut rest) {
            Ok(_) => true,
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        }
    }
}

#[test]
fn greets_negotiates_and_answers() {
    let mut bench = bench();
    let client = bench.client("q");
    let lines = bench.heard(&client);
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["QMP"]["version"]["qemu"]["major"], 7);
    let refused = json!({ "error": { "class": "CommandNotFound",
        "desc": "Expecting capabilities negotiation with 'qmp_capabilities'" }, "id": 1 });
    assert_eq!(
        bench.say(&client, r#"{"execute":"query-balloon","id":1}"#),
        [refused]
    );
    let oob = bench.say(
        &client,
        r#"{"execute":"qmp_capabilities","arguments":{"enable":["oob"]}}"#,
    );
    assert_eq!(oob[0]["error"]["class"], "GenericError");
    let extra = bench.say(&client, r#"{"execute":"qmp_capabilities","arguments":{"x":1}}"#);
    assert_eq!(extra[0]["error"]["desc"], "Parameter 'x' is unexpected");
    assert_eq!(
        bench.say(&client, r#"{"execute":"qmp_capabilities"}"#),
        [json!({ "return": {} })]
    );
    let again = bench.say(&client, r#"{"execute":"qmp_capabilities","id":2}"#);
    assert_eq!(
        again[0]["error"]["desc"],
        "Capabilities negotiation is already complete, command ignored"
    );
    assert_eq!(again[0]["id"], 2);
    let lines = bench.say(
        &client,
        "garbage\n{\"execute\":\"query-kvm\"}{\"execute\":\"query-",
    );
    assert_eq!(
        lines[0]["error"]["desc"],
        "JSON parse error, invalid keyword 'garbage'"
    );
    assert_eq!(
        lines[1],
        json!({ "return": { "enabled": true, "present": true } })
    );
    assert_eq!(
        bench.say(&client, "name\"}"),
        [json!({ "return": { "name": "web" } })]
    );
}

#[test]
fn several_clients_hear_events_once_they_negotiated() {
    let mut bench = bench();
    let (first, second) = (bench.negotiated("q"), bench.negotiated("r"));
    let third = bench.client("q");
    bench.heard(&third);
    let lines = bench.say(&first, r#"{"execute":"stop","id":9}"#);
    // As with QEMU, the event comes before the answer of the command that caused it.
    assert_eq!(lines[0]["event"], "STOP");
    assert_eq!(lines[1], json!({ "return": {}, "id": 9 }));
    assert_eq!(bench.heard(&second)[0]["event"], "STOP");
    assert!(bench.heard(&third).is_empty());
    bench.control.emit(Event::Resume);
    assert_eq!(bench.heard(&first)[0]["event"], "RESUME");
    drop(second);
    let lines = bench.say(&first, r#"{"execute":"quit"}"#);
    assert_eq!(
        lines[0]["data"],
        json!({ "guest": false, "reason": "host-qmp-quit" })
    );
    assert_eq!(lines[1], json!({ "return": {} }));
}

#[test]
fn balloon_events_are_limited_and_the_last_one_comes() {
    let mut bench = bench();
    let client = bench.negotiated("q");
    let start = Instant::now();
    for mib in [500, 400, 300] {
        bench.control.emit(Event::BalloonChange {
            actual: ByteSize::mib(mib),
        });
    }
    let first = bench.heard(&client);
    assert_eq!(first.len(), 1);
    assert_eq!(first[0]["data"]["actual"], 500 << 20);
    let last = loop {
        let lines = bench.heard(&client);
        if !lines.is_empty() {
            break lines;
        }
        assert!(
            start.elapsed() < Duration::from_secs(10),
            "the last value never came"
        );
        std::thread::sleep(Duration::from_millis(20));
    };
    assert!(start.elapsed() >= limit::PERIOD);
    assert_eq!(last.len(), 1);
    assert_eq!(last[0]["data"]["actual"], 300 << 20);
}

const STATISTICS: &str = "{'execute': 'qom-get', 'id': 1, 'arguments': \
    {'path': '/machine/peripheral/balloon0', 'property': 'guest-stats'}}";

/// Hears the client until it was told `count` lines.
fn hear(bench: &mut Bench, client: &UnixStream, count: usize) -> Vec<Value> {
    let start = Instant::now();
    let mut lines = Vec::new();
    while lines.len() < count {
        assert!(start.elapsed() < Duration::from_secs(10), "only {lines:?} came");
        std::thread::sleep(Duration::from_millis(1));
        lines.extend(bench.heard(client));
    }
    lines
}

#[test]
fn statistics_are_waited_for_and_nobody_else_waits() {
    let mut bench = bench();
    bench.machine.device.activate(F_STATS_VQ);
    let (patient, other) = (bench.negotiated("q"), bench.negotiated("r"));
    let both = format!("{STATISTICS} {{'execute': 'query-kvm', 'id': 2}}");
    let early = bench.say(&patient, &both);
    assert_eq!(bench.say(&other, "{'execute': 'query-kvm'}").len(), 1);
    bench.control.statistics_came(&mut bench.machine);
    let mut lines = early;
    lines.extend(bench.heard(&patient));
    let ids: Vec<_> = lines.iter().map(|line| line["id"].clone()).collect();
    assert_eq!(ids, [1, 2], "in the order of the requests: {lines:?}");
    assert_eq!(lines[0]["return"]["last-update"], 0);
}

#[test]
fn statistics_that_do_not_come_are_not_waited_for_long() {
    let mut bench = bench();
    let client = bench.negotiated("q");
    assert_eq!(
        bench.say(&client, STATISTICS).len(),
        1,
        "without a driver nobody waits"
    );
    bench.machine.device.activate(F_STATS_VQ);
    let start = Instant::now();
    let mut lines = bench.say(&client, STATISTICS);
    if lines.is_empty() {
        lines = hear(&mut bench, &client, 1);
    }
    assert!(start.elapsed() >= Duration::from_millis(40));
    assert_eq!(lines[0]["id"], 1);
    // Each read waits anew.
    bench.say(&client, STATISTICS);
    hear(&mut bench, &client, 1);
}

#[test]
fn a_client_that_leaves_while_it_waits_is_forgotten() {
    let mut bench = bench();
    bench.machine.device.activate(F_STATS_VQ);
    let client = bench.negotiated("q");
    bench.say(&client, STATISTICS);
    drop(client);
    bench.settle();
    assert!(bench.control.clients.is_empty());
    // One that has only said all it wanted gets its answer.
    let client = bench.negotiated("q");
    (&client).write_all(STATISTICS.as_bytes()).unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    hear(&mut bench, &client, 1);
    assert!(bench.is_closed(&client));
    assert!(bench.control.clients.is_empty());
}

#[test]
fn many_requests_at_once_all_get_their_answer() {
    let mut bench = bench();
    let client = bench.negotiated("q");
    let requests: String = (0..200)
        .map(|id| json!({ "execute": "query-status", "id": id }).to_string())
        .collect();
    let ids: Vec<_> = bench
        .say(&client, &requests)
        .into_iter()
        .map(|line| line["id"].clone())
        .collect();
    assert_eq!(ids, (0..200).map(Value::from).collect::<Vec<_>>());
}

#[test]
fn a_client_that_is_through_is_answered_first() {
    let mut bench = bench();
    let client = bench.negotiated("q");
    (&client)
        .write_all(&b"{'execute': 'query-kvm'}".repeat(20))
        .unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(bench.heard(&client).len(), 20);
    assert!(bench.is_closed(&client));
    assert!(bench.control.clients.is_empty());
}

#[test]
fn a_client_that_does_not_read_is_held_back_then_dropped() {
    let mut bench = bench();
    let slow = bench.negotiated("q");
    let other = bench.negotiated("q");
    // It asks and asks; at some point neither side takes more, and nobody else notices.
    let request =
        json!({ "execute": "human-monitor-command", "arguments": { "command-line": "help" } }).to_string();
    let mut asked = 0;
    while (&slow).write_all(request.as_bytes()).is_ok() {
        asked += 1;
        bench.control.serve(&mut bench.machine);
        assert!(asked < 1_000_000);
    }
    bench.settle();
    assert_eq!(bench.say(&other, "{'execute': 'query-kvm'}").len(), 1);
    assert_eq!(bench.control.clients.len(), 2);
    // Events cannot be held back.
    for _ in 0..20_000 {
        bench.control.emit(Event::Stop);
        if bench.control.clients.len() < 2 {
            break;
        }
        bench.heard(&other);
    }
    assert_eq!(bench.control.clients.len(), 1);
    assert_eq!(
        bench.say(&other, "{'execute': 'query-kvm'}").pop().unwrap()["return"]["enabled"],
        true
    );
}

#[test]
fn too_large_a_request_ends_the_connection_and_no_other() {
    let mut bench = bench();
    let (bad, good) = (bench.negotiated("q"), bench.negotiated("q"));
    let mut all = Vec::new();
    for _ in 0..100 {
        if (&bad).write_all(&[b'['; 1000]).is_err() {
            break;
        }
        all.extend(bench.heard(&bad));
    }
    assert_eq!(all.len(), 1);
    assert!(
        all[0]["error"]["desc"]
            .as_str()
            .unwrap()
            .contains("nested deeper")
    );
    assert!(bench.is_closed(&bad));
    assert_eq!(bench.say(&good, "{'execute': 'query-kvm'}").len(), 1);
}

#[test]
fn the_monitor_speaks_on_a_socket() {
    let mut bench = bench();
    let client = bench.client("m");
    let heard = |bench: &mut Bench| {
        bench.settle();
        let mut text = String::new();
        let error = (&client).read_to_string(&mut text).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        text
    };
    let banner = heard(&mut bench);
    assert!(
        banner.starts_with("Ballast ") && banner.ends_with("\r\n(ballast) "),
        "{banner}"
    );
    (&client).write_all(b"info status\ninfo bal").unwrap();
    assert_eq!(heard(&mut bench), "VM status: running\r\n(ballast) ");
    (&client).write_all(b"loon\r\n").unwrap();
    assert_eq!(heard(&mut bench), "balloon: actual=64\r\n(ballast) ");
    // The monitor's commands make events for programs.
    let program = bench.negotiated("q");
    (&client).write_all(b"stop\n").unwrap();
    assert_eq!(bench.heard(&program)[0]["event"], "STOP");
}

#[test]
fn no_more_clients_than_there_is_room_for() {
    let mut bench = bench();
    let mut clients: Vec<_> = (0..MAX_CLIENTS).map(|_| bench.negotiated("q")).collect();
    let waiting = bench.client("q");
    assert!(bench.heard(&waiting).is_empty());
    clients.pop();
    assert_eq!(
        bench.heard(&waiting).len(),
        1,
        "the greeting comes when somebody left"
    );
    assert_eq!(bench.control.clients.len(), MAX_CLIENTS);
}

#[test]
fn who_came_when_descriptors_had_run_out_is_let_in_when_there_are_some() {
    const ALONE: &str = "BALLAST_TEST_ALONE";
    const NAME: &str = "control::tests::who_came_when_descriptors_had_run_out_is_let_in_when_there_are_some";
    if std::env::var_os(ALONE).is_none() {
        // The limit holds for the whole process, in which other tests run.
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        let done = child.args(["--exact", NAME]).env(ALONE, "1").output().unwrap();
        let said = String::from_utf8_lossy(&done.stdout);
        assert!(done.status.success() && said.contains("1 passed"), "{said}");
        return;
    }
    let mut bench = bench();
    // So it is connected; that it is accepted is for us to do.
    let client = UnixStream::connect(bench.path("q")).unwrap();
    client.set_nonblocking(true).unwrap();
    let before = getrlimit(Resource::Nofile);
    let none_left = Rlimit {
        current: Some(3),
        ..before
    };
    setrlimit(Resource::Nofile, none_left).unwrap();
    assert_eq!(bench.heard(&client), [json!(null); 0]);
    assert!(bench.control.clients.is_empty());
    setrlimit(Resource::Nofile, before).unwrap();
    // Nobody is there who could leave.
    assert!(hear(&mut bench, &client, 1)[0]["QMP"].is_object());
    // From now on as ever.
    bench.negotiated("r");
}

#[test]
fn sockets_are_bound_before_anything_and_removed_at_the_end() {
    let bench = bench();
    let taken = config(&["-qmp".into(), format!("unix:{}", bench.path("q").display())]);
    assert!(matches!(
        Control::bind(&taken),
        Err(Error::Socket(SocketError::Answered { .. }))
    ));
    // When the second socket cannot be had, the first does not stay behind.
    let fresh = format!("unix:{}", bench.path("fresh").display());
    let half = config(&[
        "-qmp".into(),
        fresh,
        "-qmp".into(),
        format!("unix:{}", bench.path("q").display()),
    ]);
    Control::bind(&half).unwrap_err();
    let Bench { control, dir, .. } = bench;
    drop(control);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_sample_is_waited_for_in_every_language_and_nobody_else_waits() {
    let mut bench = bench();
    bench.machine.slow = true;
    let (patient, other) = (bench.negotiated("q"), bench.negotiated("r"));
    let monitor = bench.client("m");
    let both = "{'execute': 'x-ballast-query-memory', 'id': 1} {'execute': 'query-kvm', 'id': 2}";
    assert_eq!(bench.say(&patient, both), [json!(null); 0]);
    (&monitor).write_all(b"info placement\ninfo name\n").unwrap();
    bench.settle();
    assert_eq!(bench.say(&other, "{'execute': 'query-kvm'}").len(), 1);
    // News of the guest is not what they wait for.
    bench.control.statistics_came(&mut bench.machine);
    assert_eq!(bench.heard(&patient), [json!(null); 0]);

    bench.machine.read_sample();
    bench.control.sampled(&mut bench.machine);
    let lines = bench.heard(&patient);
    let ids: Vec<_> = lines.iter().map(|line| line["id"].clone()).collect();
    assert_eq!(ids, [1, 2], "in the order of the requests: {lines:?}");
    assert_eq!(lines[0]["return"]["size"], 64 << 20);
    let mut text = vec![0; 4096];
    let length = (&monitor).read(&mut text).unwrap();
    let text = String::from_utf8_lossy(&text[..length]).into_owned();
    let (placement, name) = text
        .split_once("(ballast) guest node 0, ")
        .map_or(("", ""), |(_, rest)| {
            rest.split_once("(ballast) ").unwrap_or_default()
        });
    assert!(placement.contains("resident 0 bytes"), "{text}");
    assert_eq!(name, "web\r\n(ballast) ", "{text}");
    // What was read serves the next.
    assert_eq!(
        bench
            .say(&patient, "{'execute': 'x-ballast-query-balloon'}")
            .len(),
        1
    );
}

#[test]
fn an_object_that_came_while_a_sample_was_read_is_in_the_answer() {
    let mut bench = bench();
    bench.machine.slow = true;
    let client = bench.negotiated("q");
    let object = |id| ObjectArg::new(id, BackendKind::memfd(None), ByteSize::mib(2));
    bench.machine.add_object(object("first")).unwrap();
    let query = "{'execute': 'x-ballast-query-memory'}";
    assert_eq!(bench.say(&client, query), [json!(null); 0]);
    bench.machine.read_sample();
    // Both are new to the sample, one only by what it is.
    bench.machine.remove_object("first").unwrap();
    bench.machine.add_object(object("first")).unwrap();
    bench.machine.add_object(object("second")).unwrap();
    bench.control.sampled(&mut bench.machine);
    assert_eq!(
        bench.heard(&client),
        [json!(null); 0],
        "another sample is awaited"
    );
    bench.machine.read_sample();
    bench.control.sampled(&mut bench.machine);
    let answer = bench.heard(&client);
    let ids = [0, 1, 2].map(|at| answer[0]["return"]["backends"][at]["id"].clone());
    assert_eq!(ids, ["ram", "first", "second"], "{answer:?}");

    // Why there is none is told at once.
    bench.machine.sampled = None;
    assert_eq!(bench.say(&client, query), [json!(null); 0]);
    bench.machine.sampled = Some(Err("broken".to_owned()));
    bench.control.sampled(&mut bench.machine);
    assert_eq!(bench.heard(&client)[0]["error"]["desc"], "broken");
}
