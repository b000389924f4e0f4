//! QMP: what QEMU's users' programs say and hear.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::harness::qmp::Qmp;
use tests::harness::vm::{Launch, Vm, eventually};
use tests::harness::{Error, Result};

const PATIENCE: Duration = Duration::from_secs(30);
/// Any answer comes within this time, whatever other clients do; generous, for the lab host is an emulator.
const PROMPT: Duration = Duration::from_secs(2);
const MIB: u64 = 1 << 20;

/// Class and description of an error.
fn error(answer: &Value) -> (&str, &str) {
    let text = |key: &str| answer["error"][key].as_str().unwrap_or_default();
    (text("class"), text("desc"))
}

fn version() -> Value {
    json!({ "qemu": { "major": 7, "minor": 2, "micro": 0 }, "package": concat!("ballast-", env!("CARGO_PKG_VERSION")) })
}

#[test]
#[ignore = "needs the lab: cargo lab test"]
fn a_machine_without_a_guest_answers_in_qemus_words() -> Result<()> {
    let mut vm = Launch::tiny().line("-S -m 128 -smp 2 -name web").qmp().start()?;
    let mut qmp = Qmp::connect_raw(vm.socket())?;
    assert_eq!(
        qmp.greeting,
        json!({ "QMP": { "version": version(), "capabilities": [] } })
    );

    let early = qmp.exchange(&json!({ "execute": "query-status", "id": 1 }))?;
    assert_eq!(
        error(&early),
        (
            "CommandNotFound",
            "Expecting capabilities negotiation with 'qmp_capabilities'"
        )
    );
    assert_eq!(early["id"], 1);
    let oob = qmp.exchange(&json!({ "execute": "qmp_capabilities", "arguments": { "enable": ["oob"] } }))?;
    assert_eq!(error(&oob).0, "GenericError");
    assert_eq!(
        qmp.exchange(&json!({ "execute": "qmp_capabilities", "id": "a" }))?,
        json!({ "return": {}, "id": "a" })
    );
    let again = qmp.exchange(&json!({ "execute": "qmp_capabilities" }))?;
    assert_eq!(
        error(&again),
        (
            "CommandNotFound",
            "Capabilities negotiation is already complete, command ignored"
        )
    );

    malformed(&mut qmp)?;
    state(&mut qmp, &vm)?;

    qmp.command("cont", Value::Null)?;
    qmp.wait_event("RESUME", PATIENCE)?;
    assert_eq!(qmp.command("query-status", Value::Null)?["status"], "running");
    qmp.send(b"{\"execute\":\"quit\",\"id\":\"bye\"}\n")?;
    let event = qmp.wait_event("SHUTDOWN", PATIENCE)?;
    assert_eq!(
        event["data"],
        json!({ "guest": false, "reason": "host-qmp-quit" })
    );
    assert!(
        event["timestamp"]["seconds"].as_u64() > Some(0)
            && event["timestamp"]["microseconds"].as_u64() < Some(1_000_000)
    );
    assert_eq!(vm.wait(PATIENCE)?.code(), Some(0), "{}", vm.errors.text());
    assert!(!vm.socket().exists());
    Ok(())
}

/// What is wrong with a request is said, with its id, and the next one is served.
fn malformed(qmp: &mut Qmp) -> Result<()> {
    let cases = [
        (
            json!({ "execute": "frobnicate" }),
            "CommandNotFound",
            "The command frobnicate has not been found",
        ),
        (
            json!({ "execute": 3 }),
            "GenericError",
            "QMP input member 'execute' must be a string",
        ),
        (json!({}), "GenericError", "QMP input lacks member 'execute'"),
        (
            json!({ "execute": "stop", "arguments": 3 }),
            "GenericError",
            "QMP input member 'arguments' must be an object",
        ),
        (
            json!({ "execute": "stop", "speed": 3 }),
            "GenericError",
            "QMP input member 'speed' is unexpected",
        ),
        (
            json!({ "execute": "stop", "arguments": { "hard": true } }),
            "GenericError",
            "Parameter 'hard' is unexpected",
        ),
        (
            json!({ "execute": "balloon" }),
            "GenericError",
            "Parameter 'value' is missing",
        ),
        (
            json!({ "execute": "balloon", "arguments": { "value": "1G" } }),
            "GenericError",
            "Invalid parameter type for 'value', expected: integer",
        ),
        (
            json!({ "execute": "balloon", "arguments": { "value": 1 } }),
            "DeviceNotActive",
            "No balloon device has been activated",
        ),
        (
            json!({ "execute": "query-balloon" }),
            "DeviceNotActive",
            "No balloon device has been activated",
        ),
    ];
    for (mut request, class, text) in cases {
        let id = json!({ "of": [request.clone(), null] });
        request["id"] = id.clone();
        let answer = qmp.exchange(&request)?;
        assert_eq!(error(&answer), (class, text), "{request}");
        assert_eq!(answer["id"], id, "{request}");
    }
    let list = qmp.exchange(&json!([1, 2]))?;
    assert_eq!(error(&list), ("GenericError", "QMP input must be a JSON object"));
    let answer = qmp.exchange(&json!({ "execute": "query-kvm" }))?;
    assert!(answer.get("id").is_none(), "{answer}");
    Ok(())
}

/// Everything that can be known of a machine that has not run yet.
fn state(qmp: &mut Qmp, vm: &Vm) -> Result<()> {
    let mut ask = |command: &str| qmp.command(command, Value::Null);
    assert_eq!(ask("query-version")?, version());
    assert_eq!(ask("query-kvm")?, json!({ "enabled": true, "present": true }));
    assert_eq!(ask("query-name")?, json!({ "name": "web" }));
    assert_eq!(
        ask("query-status")?,
        json!({ "status": "prelaunch", "running": false, "singlestep": false })
    );
    assert_eq!(
        ask("query-memory-size-summary")?,
        json!({ "base-memory": 128 * MIB, "plugged-memory": 0 })
    );
    let commands = ask("query-commands")?;
    let names: Vec<&str> = commands
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|command| command["name"].as_str())
        .collect();
    for name in [
        "qmp_capabilities",
        "query-version",
        "query-commands",
        "query-status",
        "query-kvm",
        "query-name",
        "stop",
        "cont",
        "quit",
        "system_powerdown",
        "system_reset",
        "query-balloon",
        "balloon",
        "query-memdev",
        "query-memory-size-summary",
        "query-cpus-fast",
        "human-monitor-command",
        "x-ballast-query-memory",
        "x-ballast-query-faults",
        "x-ballast-query-host",
    ] {
        assert!(names.contains(&name), "{name} is not in {names:?}");
    }
    let vcpus = ask("query-cpus-fast")?;
    let vcpus = vcpus.as_array().cloned().unwrap_or_default();
    assert_eq!(vcpus.len(), 2);
    for (index, vcpu) in vcpus.iter().enumerate() {
        assert_eq!(vcpu["cpu-index"], index);
        assert_eq!(vcpu["target"], "x86_64");
        assert_eq!(vcpu["props"]["core-id"], index);
        let thread = format!("/proc/{}/task/{}", vm.pid(), vcpu["thread-id"]);
        assert!(Path::new(&thread).exists(), "{thread}");
    }
    let host = ask("x-ballast-query-host")?;
    let nodes: Vec<_> = host["nodes"].as_array().into_iter().flatten().collect();
    assert_eq!(nodes.len(), 2, "{host}");
    for (index, node) in nodes.iter().enumerate() {
        assert_eq!(
            (&node["node"], &node["distances"][index]),
            (&json!(index), &json!(10))
        );
        assert!(node["free"].as_u64() < node["total"].as_u64(), "{node}");
    }
    let memdev = ask("query-memdev")?;
    assert_eq!(memdev.as_array().map(Vec::len), Some(1), "{memdev}");
    for (key, value) in [
        ("id", json!("ram")),
        ("size", json!(128 * MIB)),
        ("merge", json!(false)),
        ("dump", json!(true)),
        ("prealloc", json!(false)),
        ("share", json!(false)),
        ("policy", json!("default")),
        ("host-nodes", json!([])),
    ] {
        assert_eq!(memdev[0][key], value, "{key} in {memdev}");
    }
    assert_eq!(qmp.monitor("info status")?, "VM status: paused (prelaunch)\r\n");
    assert_eq!(qmp.monitor("frobnicate")?, "unknown command: 'frobnicate'\r\n");
    Ok(())
}

#[test]
#[ignore = "needs the lab: cargo lab test"]
fn a_running_guest_is_stopped_watched_and_reset() -> Result<()> {
    let mut vm = Launch::tiny()
        .line("-m 128 -device virtio-balloon-pci")
        .qmp()
        .start()?;
    let mut qmp = vm.qmp()?;
    let mut second = vm.qmp()?;
    let mut agent = vm.boot()?;

    // What one does, the other hears.
    qmp.command("stop", Value::Null)?;
    for client in [&mut qmp, &mut second] {
        client.wait_event("STOP", PATIENCE)?;
        assert_eq!(
            client.command("query-status", Value::Null)?,
            json!({ "status": "paused", "running": false, "singlestep": false })
        );
    }
    qmp.command("stop", Value::Null)?;
    let place = agent.console.transcript.len();
    agent.console.send("7000 exec true")?;
    let silent = agent
        .console
        .transcript
        .wait_for("agent 7000=", place, Duration::from_secs(1));
    assert!(
        silent.is_err_and(|error| error.is_timeout()),
        "a stopped guest answers"
    );
    second.command("cont", Value::Null)?;
    for client in [&mut qmp, &mut second] {
        client.wait_event("RESUME", PATIENCE)?;
    }
    agent.console.wait_for("agent 7000= 0", PATIENCE)?;
    assert_eq!(qmp.command("query-status", Value::Null)?["status"], "running");
    assert!(qmp.take_events().is_empty(), "stopping twice is no news");

    second.command("balloon", json!({ "value": 96 * MIB }))?;
    let reached = |event: &Value| event["data"]["actual"] == 96 * MIB;
    let deadline = Instant::now() + PATIENCE;
    while !reached(&qmp.wait_event("BALLOON_CHANGE", PATIENCE)?) {
        assert!(Instant::now() < deadline);
    }
    assert_eq!(
        qmp.command("query-balloon", Value::Null)?,
        json!({ "actual": 96 * MIB })
    );

    bad_company(vm.socket(), &mut qmp)?;

    agent.exec("true")?;
    agent.reboot()?;
    let event = qmp.wait_event("SHUTDOWN", PATIENCE)?;
    assert_eq!(event["data"], json!({ "guest": true, "reason": "guest-reset" }));
    second.wait_event("SHUTDOWN", PATIENCE)?;
    assert_eq!(vm.wait(PATIENCE)?.code(), Some(0), "{}", vm.errors.text());
    Ok(())
}

/// Clients that send garbage, that never read and that stop in the middle of a request disturb nobody.
fn bad_company(socket: &Path, qmp: &mut Qmp) -> Result<()> {
    let connect = || UnixStream::connect(socket).map_err(Error::file("connect to", socket));
    let broken = |error: std::io::Error| Error::Connection(error.to_string());

    // Never reads, and asks for as much as it can.
    let mut deaf = connect()?;
    deaf.set_write_timeout(Some(Duration::from_millis(200)))
        .map_err(broken)?;
    let request = b"{\"execute\":\"qmp_capabilities\"}{\"execute\":\"query-commands\"}\n".repeat(100);
    for _ in 0..2000 {
        // Refused once nobody takes it any more.
        if deaf.write_all(&request).is_err() {
            break;
        }
    }
    // Stops in the middle.
    let mut half = connect()?;
    half.write_all(b"{\"execute\": \"qmp_capa").map_err(broken)?;
    // Garbage, of every kind.
    let mut noisy = connect()?;
    noisy.set_read_timeout(Some(PATIENCE)).map_err(broken)?;
    let mut lines = BufReader::new(noisy.try_clone().map_err(broken)?).lines();
    assert!(
        lines
            .next()
            .is_some_and(|line| line.is_ok_and(|line| line.contains("QMP")))
    );
    noisy.write_all(b"hello\n").map_err(broken)?;
    let answer = lines.next().and_then(std::result::Result::ok).unwrap_or_default();
    assert!(
        answer.contains("GenericError") && answer.contains("JSON parse error"),
        "{answer}"
    );
    for noise in [
        &b"\xff\xfe\x00\x01]]]}}}\n"[..],
        &[b'['; 5000],
        &[0; 5000],
        &vec![b'{'; 2 << 20],
    ] {
        // It may be cut off at any time.
        if noisy.write_all(noise).is_err() {
            break;
        }
    }
    // Many that come and go.
    for _ in 0..100 {
        drop(connect()?);
    }

    for _ in 0..20 {
        let asked = Instant::now();
        assert_eq!(qmp.command("query-status", Value::Null)?["status"], "running");
        assert!(asked.elapsed() < PROMPT, "{:?} for an answer", asked.elapsed());
    }
    let mut fresh = Qmp::connect(socket)?;
    assert_eq!(fresh.command("query-kvm", Value::Null)?["enabled"], true);
    Ok(())
}

/// A program over the package, run by Python in the lab host: connects, asks, hears an event.
const PROGRAM: &str = r#"
import asyncio, json, sys
from qemu.qmp import QMPClient, ExecuteError

async def main():
    client = QMPClient("test")
    await client.connect(sys.argv[1])
    answers = {"greeting": client.greeting._asdict()}
    for command in ("query-status", "query-version", "query-memory-size-summary"):
        answers[command] = await client.execute(command)
    try:
        await client.execute("frobnicate")
    except ExecuteError as error:
        answers["error"] = [error.error.error.class_, error.error.error.desc]
    with client.listener("RESUME") as listener:
        await client.execute("cont")
        answers["event"] = (await listener.get())["event"]
    await client.disconnect()
    print(json.dumps(answers))

asyncio.run(main())
"#;

#[test]
#[ignore = "needs the lab: cargo lab test"]
fn the_python_package_and_its_shell_work_unmodified() -> Result<()> {
    let mut vm = Launch::tiny()
        .line("-S -m 128 -device virtio-balloon-pci")
        .qmp()
        .start()?;
    // Bound by now.
    drop(vm.qmp()?);
    let socket = vm.socket().to_string_lossy().into_owned();

    let output = python(&["-c", PROGRAM, &socket], "")?;
    let answers: Value =
        serde_json::from_str(output.trim()).unwrap_or_else(|error| panic!("{error}: {output}"));
    assert_eq!(answers["query-status"]["status"], "prelaunch", "{answers}");
    assert_eq!(answers["query-version"], version());
    assert_eq!(answers["query-memory-size-summary"]["base-memory"], 128 * MIB);
    assert_eq!(
        answers["error"],
        json!(["CommandNotFound", "The command frobnicate has not been found"])
    );
    assert_eq!(answers["event"], "RESUME");

    vm.boot()?;
    let commands = "query-status\nballoon value=100663296\nhuman-monitor-command command-line=help\n";
    let output = python(&["-m", "qemu.qmp.qmp_shell", &socket], commands)?;
    for text in [
        "Welcome to the QMP low-level shell!",
        "7.2.0",
        "\"status\": \"running\"",
        "{\"return\": {}}",
        "system_powerdown  -- send",
    ] {
        assert!(output.contains(text), "no {text:?} in {output}");
    }
    let mut qmp = vm.qmp()?;
    let reached = eventually(PATIENCE, || {
        Ok(qmp.command("query-balloon", Value::Null)?["actual"] == 96 * MIB)
    })?;
    assert!(reached, "what the shell typed did not arrive");
    Ok(())
}

/// Runs Python with what it is to read on its input; returns what it said.
fn python(arguments: &[&str], input: &str) -> Result<String> {
    let failed = |source| Error::Run {
        program: "python3".into(),
        source,
    };
    let mut command = Command::new("python3");
    command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes()).map_err(failed)?;
    }
    let mut errors = child.stderr.take();
    let output = child.wait_with_output().map_err(failed)?;
    let mut said = String::new();
    if let Some(errors) = &mut errors {
        errors.read_to_string(&mut said).map_err(failed)?;
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{arguments:?}: {}: {text}{said}",
        output.status
    );
    Ok(text)
}
