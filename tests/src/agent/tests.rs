use super::*;

#[test]
fn requests_survive_the_wire() {
    let requests = [
        Request::Execute("echo 'a  b' | cat".into()),
        Request::Memory,
        Request::Fill {
            name: "big".into(),
            seed: 7,
            mebibytes: 12,
        },
        Request::Verify("big".into()),
        Request::Free("big".into()),
        Request::Ring {
            path: "/sys/config".into(),
            offset: 80,
            milliseconds: 500,
        },
        Request::Touch(5),
        Request::WriteDisk {
            path: "/dev/vda".into(),
            series: disk::Series {
                seed: 1,
                block: 4096,
                count: 3,
                every: 2,
            },
        },
        Request::VerifyDisk {
            path: "/dev/vda".into(),
            series: disk::Series {
                seed: 1,
                block: 4096,
                count: 3,
                every: 0,
            },
        },
        Request::LoadDisk {
            path: "/dev/vda".into(),
            load: disk::Load {
                writes: true,
                random: true,
                block: 4096,
                threads: 4,
                milliseconds: 2000,
            },
        },
        Request::Stream {
            address: ([10, 7, 8, 1], 4000).into(),
            stream: stream::Stream {
                way: stream::Way::Ask,
                milliseconds: 2000,
            },
        },
        Request::Watch,
        Request::Gaps,
        Request::PowerOff,
        Request::Reboot,
    ];
    for request in requests {
        assert_eq!(Request::parse(&request.to_string()), Some(request));
    }
    assert_eq!(Request::parse("fill big x 12"), None);
}

#[test]
fn replies_survive_the_wire() {
    for reply in [
        Reply::Line("one: two = three".into()),
        Reply::Line(String::new()),
        Reply::End(-1),
    ] {
        assert_eq!(Reply::parse(&(reply.line(3) + "\r\n")), Some((3, reply)));
    }
    assert_eq!(Reply::parse("[    0.1] agent 3= 0"), None);
}

#[test]
fn memory_is_read_from_meminfo() {
    let text = "MemTotal:         504132 kB\nMemFree:          441212 kB\nMemAvailable:     450000 kB\n";
    let memory = Memory::from_meminfo(text).unwrap();
    assert_eq!(
        memory,
        Memory {
            total: 504_132 * 1024,
            available: 450_000 * 1024
        }
    );
    assert_eq!(Memory::parse(&memory.to_string()), Some(memory));
}

#[test]
fn requests_and_what_people_type_are_answered() {
    let mut console = Vec::new();
    let lines = "1 exec echo one\r\n\r\necho two\n2 nonsense\nfree nothing\n";
    serve::Agent::new(&mut console).serve(lines.as_bytes()).unwrap();
    let expected = "agent 1: one\nagent 1= 0\nagent 0: two\nagent 0= 0\nagent 2: no such request: nonsense\nagent 2= 127\n\
        agent 0: no memory is called nothing\nagent 0= 1\n";
    assert_eq!(String::from_utf8(console).unwrap(), expected);
}
