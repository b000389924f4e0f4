use std::fmt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use devices::fault::Faults;
use devices::interrupt::MsiVector;
use devices::pci::PciRoot;
use devices::testing::{Descriptor, Driver, DriverQueue, FakeDoorbells, FakeVector};
use devices::typed::InputLine;
use devices::virtio::console::Console;
use devices::virtio::pci::{BAR_BYTES, VirtioPci};
use devices::virtio::queue::{QueueError, VirtQueue};
use devices::virtio::{Description, Memory, VirtioDevice};
use memory::layout::PCI32_WINDOW_START;
use tempfile::NamedTempFile;
use vm_memory::{Bytes, GuestAddress};

use super::super::testing::{SIZE, shaky};
use super::*;

/// Set in the process that [`alone`] starts.
const CHILD: &str = "BALLAST_TEST_BUS_ERROR";

const PAGE_THERE: GuestAddress = GuestAddress(0);
const PAGE_CUT: GuestAddress = GuestAddress(SIZE - 8192);

/// Runs a test in a process of its own, since a handler is the process's; `None` inside it.
fn alone(test: &str) -> Option<Output> {
    if std::env::var_os(CHILD).is_some() {
        return None;
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([
        "--exact",
        &format!("host::bus_error::tests::{test}"),
        "--nocapture",
    ]);
    Some(command.env(CHILD, "1").output().unwrap())
}

/// Guest memory whose missing pages are told of.
fn watched() -> (Ram, NamedTempFile, BusErrors) {
    let (ram, file) = shaky();
    let errors = BusErrors::watch().unwrap();
    BusErrors::guard(&ram);
    (ram, file, errors)
}

fn wait_for(errors: &BusErrors) -> BusError {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(error) = errors.take().pop() {
            return error;
        }
        assert!(Instant::now() < end, "nobody met a missing page");
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_thread_waits_until_its_page_is_there() {
    if let Some(output) = alone("a_thread_waits_until_its_page_is_there") {
        assert!(output.status.success(), "{output:?}");
        return;
    }
    let (ram, file, errors) = watched();
    file.as_file().set_len(SIZE / 2).unwrap();
    let memory = ram.memory().clone();
    let worker = thread::spawn(move || {
        memory.write_obj(7_u32, PAGE_CUT).unwrap();
        memory.read_obj::<u32>(PAGE_CUT).unwrap()
    });
    let error = wait_for(&errors);
    assert_eq!(error.kind, Kind::Missing);
    assert_eq!(ram.locate(error.address), Some((PAGE_CUT, 0)));

    // Trying again without a page only ends here again.
    BusErrors::retry();
    assert_eq!(wait_for(&errors), error);
    assert!(!worker.is_finished() && BusErrors::waits(&worker));

    file.as_file().set_len(SIZE).unwrap();
    BusErrors::retry();
    assert!(comes_true(|| !BusErrors::waits(&worker)), "its wait has no end");
    assert_eq!(worker.join().unwrap(), 7);
    assert_eq!(errors.take(), []);
}

/// Whether `condition` holds within the time that a test has.
fn comes_true(mut condition: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + Duration::from_secs(20);
    while !condition() {
        if Instant::now() > end {
            return false;
        }
        thread::sleep(Duration::from_millis(1));
    }
    true
}

/// The main loop hands on what is typed, and only it can let a console go on whose buffer is missing.
#[test]
fn who_types_does_not_wait_for_the_consoles_page() {
    if let Some(output) = alone("who_types_does_not_wait_for_the_consoles_page") {
        assert!(output.status.success(), "{output:?}");
        return;
    }
    let (ram, file, errors) = watched();
    let (handle, console) = Console::new("console0".into(), Box::new(std::io::sink())).unwrap();
    let device = VirtioPci::new(
        Box::new(console),
        ram.clone(),
        (0..3)
            .map(|_| Arc::new(FakeVector::default()) as Arc<dyn MsiVector>)
            .collect(),
        Arc::new(FakeDoorbells::default()),
        Arc::default(),
        PCI32_WINDOW_START,
    );
    let device = device.unwrap();
    let [mut receive, transmit] = [0x1000, 0x4000].map(|rings| DriverQueue::new(&ram, rings, 128));
    let driver = Driver::new(&device);
    driver.set_memory_enabled(true);
    driver.enable_msix(3);
    driver.start(0, &[&receive, &transmit]);
    receive.describe(0, Descriptor::writable(PAGE_CUT.0, 16));
    receive.offer(0);
    driver.notify(0);

    file.as_file().set_len(SIZE / 2).unwrap();
    assert_eq!(handle.input(b"a"), 1);
    assert_eq!(wait_for(&errors).kind, Kind::Missing);
    let typist = thread::spawn(move || handle.input(b"bc"));
    let typed = comes_true(|| typist.is_finished());
    // Before anything fails: the end waits for the device.
    file.as_file().set_len(SIZE).unwrap();
    BusErrors::retry();
    assert!(typed, "who typed waited for the page");
    assert_eq!(typist.join().unwrap(), 2);
    assert!(comes_true(|| receive.used_index() == 1));
    assert_eq!(receive.take_used(), [(0, 1)]);
    assert_eq!(ram.memory().read_obj::<[u8; 2]>(PAGE_CUT).unwrap(), *b"a\0");
}

/// An event of a device without queues makes its worker do something.
struct Busy {
    id: &'static str,
    event: EventFd,
    work: Box<dyn FnMut() + Send>,
    ended: Option<mpsc::Sender<&'static str>>,
}

impl fmt::Debug for Busy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id)
    }
}

impl Drop for Busy {
    /// As a disk flushes.
    fn drop(&mut self) {
        thread::sleep(Duration::from_millis(100));
        let _ = self.ended.take().map(|ended| ended.send(self.id));
    }
}

impl VirtioDevice for Busy {
    fn description(&self) -> Description {
        Description {
            id: self.id.to_owned(),
            device_type: 2,
            class: 0,
            features: 0,
            queue_sizes: Vec::new(),
            config_writable: Vec::new(),
        }
    }

    fn config(&self) -> &[u8] {
        &[]
    }

    fn event(&self) -> &EventFd {
        &self.event
    }

    fn handle_event(&mut self) {
        (self.work)();
    }

    fn process(&mut self, _: &Memory, _: &mut [VirtQueue], _: &Faults) -> Result<(), QueueError> {
        Ok(())
    }

    fn reset(&mut self) {}
}

#[test]
fn a_machine_ends_without_a_device_that_waits_for_a_page() {
    if let Some(output) = alone("a_machine_ends_without_a_device_that_waits_for_a_page") {
        assert!(output.status.success(), "{output:?}");
        return;
    }
    let (ram, file, errors) = watched();
    file.as_file().set_len(SIZE / 2).unwrap();
    let faults = Arc::new(Faults::new());
    let pci = PciRoot::new(Arc::clone(&faults));
    let (ended, ends) = mpsc::channel();
    let add = |slot: u8, id, work: Box<dyn FnMut() + Send>| {
        let event = EventFd::new(EFD_NONBLOCK).unwrap();
        event.write(1).unwrap();
        let ended = Some(ended.clone());
        let device = Box::new(Busy {
            id,
            event,
            work,
            ended,
        });
        let bar = PCI32_WINDOW_START + BAR_BYTES * u64::from(slot);
        let function = VirtioPci::new(
            device,
            ram.clone(),
            vec![Arc::new(FakeVector::default())],
            Arc::new(FakeDoorbells::default()),
            faults.clone(),
            bar,
        );
        pci.add(slot, function.unwrap()).unwrap();
    };
    let memory = ram.memory().clone();
    add(
        1,
        "starved",
        Box::new(move || memory.write_obj(7_u32, PAGE_CUT).unwrap()),
    );
    // Longer than it takes to see that the other one waits.
    let (working, works) = mpsc::channel();
    let slow = move || {
        working.send(()).unwrap();
        thread::sleep(Duration::from_millis(300));
    };
    add(2, "slow", Box::new(slow));
    assert_eq!(wait_for(&errors).kind, Kind::Missing);
    works.recv_timeout(Duration::from_secs(20)).unwrap();

    let (over, end) = mpsc::channel();
    thread::spawn(move || {
        pci.end(&BusErrors::waits);
        drop(pci);
        over.send(()).unwrap();
    });
    end.recv_timeout(Duration::from_secs(20))
        .expect("the end has an end");
    assert_eq!(ends.try_iter().collect::<Vec<_>>(), ["slow"]);
}

/// Dies as `die` makes it, with guest memory known; returns what the dead said.
fn crash(test: &str, die: impl FnOnce(Ram)) -> Option<String> {
    if let Some(output) = alone(test) {
        assert_eq!(output.status.signal(), Some(libc::SIGBUS), "{output:?}");
        return Some(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let (ram, file) = shaky();
    let _errors = BusErrors::watch().unwrap();
    BusErrors::guard(&ram);
    file.as_file().set_len(SIZE / 2).unwrap();
    die(ram);
    None
}

#[test]
fn other_memory_is_the_end() {
    let other = |_ram| {
        // Of this memory the handler knows nothing.
        let (other, file) = shaky();
        file.as_file().set_len(0).unwrap();
        thread::spawn(move || other.memory().read_obj::<u8>(PAGE_THERE)).join()
    };
    if let Some(said) = crash("other_memory_is_the_end", |ram| drop(other(ram))) {
        assert!(
            said.contains("ballast: bus error") && said.contains("host address 0x0000"),
            "{said}"
        );
    }
}

#[test]
fn the_thread_that_would_have_to_help_does_not_wait_for_itself() {
    let name = "the_thread_that_would_have_to_help_does_not_wait_for_itself";
    let touch = |ram: Ram| drop(ram.memory().read_obj::<u8>(PAGE_CUT));
    if let Some(said) = crash(name, touch) {
        assert!(said.contains("in the main thread"), "{said}");
    }
}

#[test]
fn before_guest_memory_is_known_the_start_fails() {
    if let Some(output) = alone("before_guest_memory_is_known_the_start_fails") {
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("ballast: no memory for the guest"), "{said}");
        return;
    }
    let _errors = BusErrors::watch().unwrap();
    let (ram, file) = shaky();
    file.as_file().set_len(0).unwrap();
    drop(ram.memory().read_obj::<u8>(PAGE_THERE));
}

#[test]
fn who_is_told_what() {
    let scene = Scene {
        code: 2,
        started: true,
        in_ram: true,
        main_thread: false,
        in_guest: false,
    };
    let cases = [
        (scene, Verdict::Wait(Kind::Missing)),
        (
            Scene {
                code: BROKEN_TOUCHED,
                ..scene
            },
            Verdict::Wait(Kind::Broken),
        ),
        (
            Scene {
                code: BROKEN_TOUCHED,
                in_guest: true,
                ..scene
            },
            Verdict::TellGuest,
        ),
        (
            Scene {
                code: BROKEN_FOUND,
                main_thread: true,
                in_ram: false,
                ..scene
            },
            Verdict::Tell(Kind::FoundBroken),
        ),
        (
            Scene {
                main_thread: true,
                ..scene
            },
            Verdict::Crash { sent: false },
        ),
        (
            Scene {
                in_ram: false,
                ..scene
            },
            Verdict::Crash { sent: false },
        ),
        (
            Scene {
                in_ram: false,
                code: BROKEN_TOUCHED,
                ..scene
            },
            Verdict::Crash { sent: false },
        ),
        (
            Scene {
                started: false,
                in_ram: false,
                ..scene
            },
            Verdict::EndStart,
        ),
        (Scene { code: 0, ..scene }, Verdict::Crash { sent: true }),
        (
            Scene {
                code: -6,
                in_guest: true,
                ..scene
            },
            Verdict::Crash { sent: true },
        ),
    ];
    for (scene, verdict) in cases {
        assert_eq!(judge(scene), verdict, "{scene:?}");
    }
}

#[test]
fn reports_survive_their_slot() {
    for kind in [Kind::Missing, Kind::Broken, Kind::FoundBroken] {
        let error = BusError {
            address: 0x7f12_3456_7000,
            kind,
        };
        assert_eq!(BusError::from_word(error.to_word()), Some(error));
    }
    assert_eq!(BusError::from_word(0), None);
}
