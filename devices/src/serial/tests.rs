use std::sync::{Arc, Condvar, mpsc};
use std::thread;
use std::time::Duration;

use vmm_sys_util::eventfd::EFD_NONBLOCK;

use crate::typed::MOST_TYPED;

use super::*;

const DATA: u64 = 0;
const INTERRUPT_ENABLE: u64 = 1;
const INTERRUPT_IDENTIFICATION: u64 = 2;
const MODEM_CONTROL: u64 = 4;
const LINE_STATUS: u64 = 5;

const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Clone, Default)]
struct Out(Arc<Mutex<Vec<u8>>>);

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Broken;

impl Write for Broken {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Takes nothing until somebody opens it.
#[derive(Clone, Default)]
struct Stuck(Arc<(Mutex<State>, Condvar)>);

#[derive(Default)]
struct State {
    open: bool,
    waits: bool,
    taken: Vec<u8>,
    flushes: usize,
}

impl Stuck {
    fn wait_until(&self, is: impl Fn(&State) -> bool) {
        let (state, changed) = &*self.0;
        let state = state.lock().unwrap();
        let waited = changed.wait_timeout_while(state, PATIENCE, |state| !is(state));
        assert!(!waited.unwrap().1.timed_out());
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.0.0.lock().unwrap());
        self.0.1.notify_all();
    }
}

impl Write for Stuck {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.change(|state| state.waits = true);
        self.wait_until(|state| state.open);
        self.change(|state| state.taken.extend(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.change(|state| state.flushes += 1);
        Ok(())
    }
}

fn port(out: Box<dyn Write + Send>) -> (SerialPort, EventFd) {
    let irq = EventFd::new(EFD_NONBLOCK).unwrap();
    (SerialPort::new(irq.try_clone().unwrap(), out).unwrap(), irq)
}

fn read(port: &SerialPort, offset: u64) -> u8 {
    let mut byte = [0];
    port.read(offset, &mut byte);
    byte[0]
}

fn drain(port: &SerialPort) -> Vec<u8> {
    let mut got = Vec::new();
    while read(port, LINE_STATUS) & 1 != 0 {
        got.push(read(port, DATA));
    }
    got
}

#[test]
fn writes_what_the_guest_prints() {
    let out = Out::default();
    let (port, irq) = port(Box::new(out.clone()));
    for byte in b"hello" {
        assert_eq!(port.write(DATA, &[*byte]), Action::None);
    }
    assert_eq!(*out.0.lock().unwrap(), b"hello");
    assert!(irq.read().is_err(), "no interrupt before it is enabled");
    let _ = port.write(INTERRUPT_ENABLE, &[2]);
    assert!(irq.read().is_ok());
}

#[test]
fn survives_an_output_that_fails() {
    let (port, _) = port(Box::new(Broken));
    let _ = port.write(DATA, b"x");
    assert_eq!(read(&port, LINE_STATUS) & 0x20, 0x20, "ready for the next byte");
}

/// One that types, and other vCPUs, have nothing to do with a vCPU whose output nobody takes.
#[test]
fn nobody_waits_for_a_vcpu_that_waits_for_its_output() {
    let out = Stuck::default();
    let (port, irq) = port(Box::new(out.clone()));
    let _ = port.write(INTERRUPT_ENABLE, &[2]);
    assert!(irq.read().is_ok());
    read(&port, INTERRUPT_IDENTIFICATION);
    let port = Arc::new(port);
    let printing = Arc::clone(&port);
    let printing = thread::spawn(move || printing.write(DATA, b"x"));
    out.wait_until(|state| state.waits);
    assert!(irq.read().is_err(), "the byte has not left");

    let (done, others) = mpsc::channel();
    let other = Arc::clone(&port);
    thread::spawn(move || {
        assert_eq!(other.input(b"key"), 3);
        assert_eq!(drain(&other), b"key");
        let _ = other.write(MODEM_CONTROL, &[0x08]);
        done.send(()).unwrap();
    });
    others.recv_timeout(PATIENCE).expect("nobody waits");
    assert!(!printing.is_finished());

    while irq.read().is_ok() {}
    out.change(|state| state.open = true);
    assert_eq!(printing.join().unwrap(), Action::None);
    assert_eq!(out.0.0.lock().unwrap().taken, b"x");
    let _ = port.write(DATA, b"y");
    assert_eq!(out.0.0.lock().unwrap().taken, b"xy");
}

#[test]
fn a_byte_that_has_left_is_told_to_the_driver() {
    let (port, irq) = port(Box::new(Out::default()));
    let _ = port.write(INTERRUPT_ENABLE, &[2]);
    assert!(irq.read().is_ok());
    for byte in b"hello" {
        read(&port, INTERRUPT_IDENTIFICATION);
        assert!(irq.read().is_err());
        let _ = port.write(DATA, &[*byte]);
        assert!(irq.read().is_ok());
    }
}

/// An outlet that a vCPU could not wait for has kept the byte.
#[test]
fn every_access_gives_the_outlet_a_chance() {
    let out = Stuck::default();
    let (port, _) = port(Box::new(out.clone()));
    for access in 1..4 {
        read(&port, LINE_STATUS);
        assert_eq!(out.0.0.lock().unwrap().flushes, access);
    }
    let _ = port.write(MODEM_CONTROL, &[0x08]);
    assert_eq!(out.0.0.lock().unwrap().flushes, 4);
}

#[test]
fn input_reaches_the_guest_in_order() {
    let (port, irq) = port(Box::new(io::sink()));
    let _ = port.write(INTERRUPT_ENABLE, &[1]);
    let text: Vec<u8> = (0..=255).collect();
    assert_eq!(port.input(&text), 256);
    assert!(irq.read().is_ok());
    assert_eq!(drain(&port), text);
    assert_eq!(read(&port, DATA), 0);
}

/// What Linux does at interrupts (`serial8250_interrupt`): it asks what for, and reads at most 256 bytes before it asks again.
fn served(port: &SerialPort, irq: &EventFd) -> Vec<u8> {
    let mut got = Vec::new();
    while irq.read().is_ok() {
        while read(port, INTERRUPT_IDENTIFICATION) & 1 == 0 {
            for _ in 0..256 {
                if read(port, LINE_STATUS) & 1 == 0 {
                    break;
                }
                got.push(read(port, DATA));
            }
        }
    }
    got
}

#[test]
fn a_driver_that_reads_a_part_is_told_of_the_rest() {
    let (port, irq) = port(Box::new(io::sink()));
    let _ = port.write(INTERRUPT_ENABLE, &[1]);
    for len in [1, 63, 64, 65, 255, 256, 257, 300, 319, 320, 321, 1000, MOST_TYPED] {
        let text: Vec<u8> = (0..=250).cycle().take(len).collect();
        assert_eq!(port.input(&text), len);
        assert_eq!(served(&port, &irq), text);
    }
}

#[test]
fn what_was_typed_before_the_driver_came_is_told_to_it() {
    let (port, irq) = port(Box::new(io::sink()));
    assert_eq!(port.input(b"early"), 5);
    assert!(irq.read().is_err());
    let _ = port.write(INTERRUPT_ENABLE, &[1]);
    assert_eq!(served(&port, &irq), b"early");
}

/// A guest that does not read costs a bounded backlog; the source is told when to go on.
#[test]
fn input_is_bounded() {
    let (port, _) = port(Box::new(io::sink()));
    let flood = vec![7; 100_000];
    let taken = port.input(&flood);
    assert_eq!(taken, MOST_TYPED);
    // What moved on into the UART makes room for so much more.
    assert_eq!(port.input(&flood), 1);
    assert_eq!(port.input(&flood), 0);
    assert!(port.room().read().is_err());
    assert!(drain(&port).len() >= taken);
    assert!(port.room().read().is_ok());
    assert!(port.input(b"more") == 4);
}

#[test]
fn input_waits_for_the_end_of_loopback() {
    let (port, _) = port(Box::new(io::sink()));
    let _ = port.write(MODEM_CONTROL, &[0x10]);
    assert_eq!(port.input(b"abc"), 3);
    assert_eq!(read(&port, LINE_STATUS) & 1, 0);
    let _ = port.write(MODEM_CONTROL, &[0]);
    assert_eq!(drain(&port), b"abc");
}

#[test]
fn takes_any_width_and_offset() {
    let (port, _) = port(Box::new(io::sink()));
    for offset in 0..SERIAL_PORTS {
        for len in [1, 2, 4, 8] {
            port.read(offset, &mut vec![0; len]);
            let _ = port.write(offset, &vec![0xff; len]);
        }
    }
}

#[test]
fn a_reset_undoes_what_a_driver_has_set() {
    let (port, irq) = port(Box::new(io::sink()));
    let fresh: Vec<u8> = (1..8).map(|offset| read(&port, offset)).collect();
    assert_eq!(port.input(b"o"), 1);
    // Interrupts, divisor, loopback, scratch, and the divisor's latch left open.
    for (offset, value) in [(1, 0x0f), (3, 0x83), (0, 0x55), (1, 0x55), (4, 0x1f), (7, 0x55)] {
        let _ = port.write(offset, &[value]);
    }
    let _ = irq.read();
    port.reset();
    assert_eq!(
        (1..8).map(|offset| read(&port, offset)).collect::<Vec<_>>(),
        fresh
    );
    assert!(irq.read().is_err(), "nobody asked for an interrupt");
    assert_eq!(port.input(b"new"), 3);
    port.reset();
    read(&port, LINE_STATUS);
    assert_eq!(drain(&port), b"ew", "only what had reached the UART is lost");
}
