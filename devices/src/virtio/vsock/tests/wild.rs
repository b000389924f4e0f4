//! Drivers and programs that do anything at any time.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// What happens next.
#[derive(Clone, Debug)]
enum Step {
    /// The guest sends a packet, with this many bytes and this much room.
    Packet {
        op: Op,
        port: u32,
        flags: u32,
        bytes: usize,
        room: u32,
    },
    /// A program of the host takes the connection that waits for it.
    Accept,
    Call(u32),
    /// Programs of the host, by number.
    Write(usize, usize),
    Read(usize),
    Shut(usize),
    Close(usize),
    /// The guest has so many buffers more to receive into.
    Give(usize),
    Expire,
    Reset,
}

fn step() -> impl Strategy<Value = Step> {
    let op = prop_oneof![
        3 => Just(Op::Request),
        3 => Just(Op::Response),
        1 => Just(Op::Reset),
        1 => Just(Op::Shutdown),
        6 => Just(Op::Bytes),
        1 => Just(Op::CreditUpdate),
        1 => Just(Op::CreditRequest),
    ];
    let room = prop_oneof![Just(0_u32), Just(100), Just(1 << 20), Just(u32::MAX)];
    let packet = (op, 0..4_u32, 0..4_u32, 0..=MOST, room).prop_map(|(op, port, flags, bytes, room)| {
        let bytes = if op == Op::Bytes { bytes } else { 0 };
        Step::Packet {
            op,
            port,
            flags,
            bytes,
            room,
        }
    });
    prop_oneof![
        10 => packet,
        3 => Just(Step::Accept),
        2 => (0..4_u32).prop_map(Step::Call),
        3 => (0..8_usize, 1..100_000_usize).prop_map(|(who, bytes)| Step::Write(who, bytes)),
        3 => (0..8_usize).prop_map(Step::Read),
        1 => (0..8_usize).prop_map(Step::Shut),
        1 => (0..8_usize).prop_map(Step::Close),
        4 => (1..64_usize).prop_map(Step::Give),
        1 => Just(Step::Expire),
        1 => Just(Step::Reset),
    ]
}

/// Where the guest's packets go: the ports of the host that call are the guest's to answer.
fn answered(asked: &[u32], port: u32, op: Op) -> u32 {
    match (op, asked.last()) {
        (Op::Request, _) | (_, None) => PORT + port % 2,
        (_, Some(caller)) if port > 1 => *caller,
        _ => PORT + port % 2,
    }
}

fn run(steps: Vec<Step>) {
    let ram = anonymous_ram(64);
    let mut rig = Rig::new(&ram);
    // The second port has a program that takes nobody on, until its queue is full.
    let servers = [PORT, PORT + 1].map(|port| rig.serve_port(port));
    servers[0].set_nonblocking(true).unwrap();
    let mut programs: Vec<UnixStream> = Vec::new();
    rig.free = (0..64).collect();
    let mut asked = Vec::new();
    // What the guest may still be sent, by its own last word, a connection's two ports.
    let mut may: BTreeMap<(u32, u32), u64> = BTreeMap::new();
    for step in steps {
        match step {
            Step::Packet {
                op,
                port,
                flags,
                bytes,
                room,
            } => {
                let (to_port, from_port) = (answered(&asked, port, op), GUEST_PORT + port % 2);
                let header = Header {
                    from_port,
                    to_port,
                    flags,
                    room,
                    ..packet(op)
                };
                let most = may.entry((to_port, from_port)).or_default();
                *most = (*most).max(room.into());
                rig.try_send(header, bytes);
            }
            Step::Accept => programs.extend(servers[0].accept().map(|(stream, _)| stream)),
            Step::Call(port) => {
                let mut program = rig.call();
                writeln!(program, "CONNECT {}", GUEST_PORT + port % 2).unwrap();
                programs.push(program);
            }
            Step::Write(who, bytes) => {
                if let Some(program) = programs.get_mut(who) {
                    program.set_nonblocking(true).unwrap();
                    let _ = program.write(&vec![9; bytes]);
                }
            }
            Step::Read(who) => {
                if let Some(program) = programs.get_mut(who) {
                    program.set_nonblocking(true).unwrap();
                    let _ = program.read(&mut [0; 50_000]);
                }
            }
            Step::Shut(who) => {
                if let Some(program) = programs.get(who) {
                    let _ = program.shutdown(Shutdown::Write);
                }
            }
            Step::Close(who) if who < programs.len() => drop(programs.remove(who)),
            Step::Close(_) => {}
            Step::Give(count) => {
                let left = rig.free.len().saturating_sub(count);
                for head in rig.free.split_off(left) {
                    rig.give(u16::try_from(head).unwrap(), PAGE);
                }
            }
            Step::Expire => rig.vsock.handle_event(),
            Step::Reset => {
                rig.vsock.reset();
                may.clear();
                asked.clear();
            }
        }
        rig.serve();
        assert!(rig.vsock.connections.resets() <= MOST_RESETS + 64);
        for (header, payload) in rig.take_packets() {
            let ports = (header.from_port, header.to_port);
            match header.op {
                Some(Op::Request) => asked.push(header.from_port),
                Some(Op::Bytes) => {
                    assert!(!payload.is_empty(), "a packet for nothing");
                    let room = may.get(&ports).copied().unwrap_or(0);
                    assert!(
                        payload.len() as u64 <= room,
                        "more than the guest has ever had room for"
                    );
                }
                _ => {}
            }
        }
    }
    // Everybody goes, and nothing is left but what the guest has to end.
    drop(programs);
    rig.serve();
    rig.vsock.reset();
    assert_eq!(rig.vsock.next_timer(), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn anything_may_happen(steps in proptest::collection::vec(step(), 1..120)) {
        run(steps);
    }
}
