use memory::ram::Ram;
use vm_memory::GuestAddress;

use crate::testing::{Descriptor, DriverQueue, anonymous_ram};
use crate::virtio::F_VERSION_1;

use super::*;

/// Places of the queues.
const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;

const BUFFERS: u64 = 0x1_0000;
const LONG: u64 = 0x10_0000;

/// An outlet with room for so many bytes, and what it got.
#[derive(Clone, Default)]
struct Pipe(Arc<Mutex<(usize, Vec<u8>)>>);

impl Pipe {
    fn with_room(room: usize) -> Pipe {
        Pipe(Arc::new(Mutex::new((room, Vec::new()))))
    }

    fn make_room(&self, room: usize) {
        self.0.lock().unwrap().0 += room;
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap().1).into_owned()
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut pipe = self.0.lock().unwrap();
        let count = bytes.len().min(pipe.0);
        if count == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        pipe.0 -= count;
        pipe.1.extend(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A device without transport and thread, its queues served by hand.
struct Rig<'a> {
    ram: &'a Ram,
    handle: ConsoleHandle,
    console: Console,
    drivers: [DriverQueue<'a>; 2],
    queues: [VirtQueue; 2],
    faults: Faults,
}

impl<'a> Rig<'a> {
    fn new(ram: &'a Ram, outlet: &Pipe) -> Rig<'a> {
        let drivers = [0x1000, 0x4000].map(|rings| DriverQueue::new(ram, rings, QUEUE_SIZE));
        let queues = [RECEIVE, TRANSMIT]
            .map(|index| drivers[index].device_side(u16::try_from(index).unwrap(), F_VERSION_1));
        let (handle, console) = Console::new("console0".into(), Box::new(outlet.clone())).unwrap();
        Rig {
            ram,
            handle,
            console,
            drivers,
            queues,
            faults: Faults::new(),
        }
    }

    /// The driver sends `text` from the buffer and descriptor `index`.
    fn say(&mut self, index: u16, text: &str) {
        let address = BUFFERS + 0x1000 * u64::from(index);
        let memory = self.ram.memory();
        memory
            .write_slice(text.as_bytes(), GuestAddress(address))
            .unwrap();
        let length = u32::try_from(text.len()).unwrap();
        self.offer(TRANSMIT, index, Descriptor::readable(address, length));
    }

    fn offer(&mut self, queue: usize, index: u16, descriptor: Descriptor) {
        self.drivers[queue].describe(index, descriptor);
        self.drivers[queue].offer(index);
    }

    /// Serves once; heads and lengths of what came back, by queue.
    fn serve(&mut self) -> [Vec<(u32, u32)>; 2] {
        let memory = self.ram.memory();
        self.console
            .process(memory, &mut self.queues, &self.faults)
            .unwrap();
        for queue in &mut self.queues {
            let _ = queue.finish(memory).unwrap();
        }
        [RECEIVE, TRANSMIT].map(|queue| self.drivers[queue].take_used())
    }

    fn bytes(&self, address: u64, count: usize) -> String {
        let mut bytes = vec![0; count];
        self.ram
            .memory()
            .read_slice(&mut bytes, GuestAddress(address))
            .unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn bad_chains(&self) -> u64 {
        self.faults.get("virtio-chain").unwrap()
    }
}

#[test]
fn output_comes_whole_and_in_order() {
    let ram = anonymous_ram(8);
    let pipe = Pipe::with_room(usize::MAX);
    let mut rig = Rig::new(&ram, &pipe);
    for index in 0..QUEUE_SIZE {
        rig.say(index, &format!("{index} "));
    }
    let [_, used] = rig.serve();
    assert_eq!(used.len(), usize::from(QUEUE_SIZE));
    let all: String = (0..QUEUE_SIZE).map(|index| format!("{index} ")).collect();
    assert_eq!(pipe.text(), all);
    assert_eq!(rig.bad_chains(), 0);
}

#[test]
fn a_full_outlet_makes_the_driver_wait_and_loses_nothing() {
    let ram = anonymous_ram(8);
    let pipe = Pipe::with_room(3);
    let mut rig = Rig::new(&ram, &pipe);
    rig.say(0, "abcde");
    rig.offer(
        TRANSMIT,
        1,
        Descriptor::readable(LONG, u32::try_from(BACKLOG).unwrap()),
    );
    rig.say(2, "fgh");
    let used = [(0, 0), (1, 0)];
    assert_eq!(rig.serve()[TRANSMIT], used, "the third stays in the ring");
    assert_eq!(pipe.text(), "abc");
    assert!(
        rig.console
            .next_timer()
            .is_some_and(|due| due <= Instant::now() + RETRY)
    );
    for (room, used) in [(1, 0), (1, 0), (BACKLOG - 1, 1), (9, 0)] {
        pipe.make_room(room);
        rig.console.handle_event();
        assert_eq!(rig.serve()[TRANSMIT].len(), used, "room for {room} more");
    }
    assert_eq!(pipe.text(), format!("abcde{}fgh", "\0".repeat(BACKLOG)));
    assert_eq!(rig.console.next_timer(), None);
    rig.console.reset();
    rig.say(3, "!");
    let _ = rig.serve();
    assert!(pipe.text().ends_with("fgh!"));
}

#[test]
fn input_waits_for_buffers() {
    let ram = anonymous_ram(8);
    let mut rig = Rig::new(&ram, &Pipe::default());
    assert_eq!(rig.handle.input(b"hello"), 5);
    assert_eq!(rig.console.event().read().unwrap(), 1);
    assert_eq!(rig.serve()[RECEIVE], []);
    for index in [0, 1, 2] {
        rig.offer(
            RECEIVE,
            index,
            Descriptor::writable(BUFFERS + 0x1000 * u64::from(index), 3),
        );
    }
    assert_eq!(rig.serve()[RECEIVE], [(0, 3), (1, 2)], "the third waits for more");
    assert_eq!(
        (rig.bytes(BUFFERS, 3), rig.bytes(BUFFERS + 0x1000, 2)),
        ("hel".into(), "lo".into())
    );
    assert_eq!(rig.handle.input(b"more"), 4);
    assert_eq!(rig.serve()[RECEIVE], [(2, 3)]);
}

#[test]
fn input_is_bounded_and_told_when_there_is_room() {
    let ram = anonymous_ram(8);
    let mut rig = Rig::new(&ram, &Pipe::default());
    let taken = rig.handle.input(&[b'x'; 5000]);
    assert_eq!(taken, crate::typed::MOST_TYPED);
    assert_eq!(rig.handle.input(b"y"), 0);
    assert!(rig.handle.room().read().is_err());
    rig.offer(RECEIVE, 0, Descriptor::writable(BUFFERS, 3000));
    assert_eq!(rig.serve()[RECEIVE], [(0, 3000)]);
    assert_eq!(rig.handle.room().read().unwrap(), 1);
    assert_eq!(rig.handle.input(b"y"), 1);
}

/// What a driver adds to a ring while as many chains as it holds are served, it need not ring for.
#[test]
fn a_full_turn_is_followed_by_another() {
    let ram = anonymous_ram(8);
    let mut rig = Rig::new(&ram, &Pipe::with_room(usize::MAX));
    let buffers = [
        (RECEIVE, Descriptor::writable(BUFFERS, 1)),
        (TRANSMIT, Descriptor::readable(BUFFERS, 1)),
    ];
    for (queue, buffer) in buffers {
        for count in [QUEUE_SIZE - 1, QUEUE_SIZE] {
            assert_eq!(rig.handle.input(&[b'x'; 200]), 200);
            assert_eq!(rig.console.event().read().unwrap(), 1);
            (0..count).for_each(|index| rig.offer(queue, index, buffer));
            assert_eq!(rig.serve()[queue].len(), usize::from(count));
            let again = rig.console.event().read().is_ok();
            assert_eq!(again, count == QUEUE_SIZE, "{count} chains of queue {queue}");
        }
    }
}

#[test]
fn chains_that_no_driver_sends_come_back_and_are_counted() {
    let ram = anonymous_ram(8);
    let pipe = Pipe::with_room(usize::MAX);
    let mut rig = Rig::new(&ram, &pipe);
    assert_eq!(rig.handle.input(b"hello"), 5);
    let most = u32::try_from(MOST).unwrap();
    let chains = [
        (TRANSMIT, Descriptor::writable(BUFFERS, 4)),
        (TRANSMIT, Descriptor::readable(LONG, most + 1)),
        (TRANSMIT, Descriptor::readable(u64::MAX - 1, 4)),
        (RECEIVE, Descriptor::readable(BUFFERS, 4)),
        (RECEIVE, Descriptor::writable(1 << 40, 4)),
    ];
    for (index, (queue, descriptor)) in (0..).zip(chains) {
        rig.offer(queue, index, descriptor);
    }
    let used = rig.serve();
    assert_eq!(used, [vec![(3, 0), (4, 0)], vec![(0, 0), (1, 0), (2, 0)]]);
    assert_eq!(rig.bad_chains(), 5);
    assert_eq!(pipe.text(), "");
    rig.offer(TRANSMIT, 0, Descriptor::readable(LONG, most));
    let _ = rig.serve();
    assert_eq!(pipe.text().len(), MOST);
}
