//! SIGBUS: what the kernel sends to a thread that touches memory which cannot be had, or which is broken.
//!
//! A thread of ours that touches guest memory which the host cannot supply waits in the handler, on a futex. The main loop is
//! woken by an eventfd, stops the machine and tells its user; when it lets the thread go, the instruction is tried again. So
//! the main loop itself must never touch guest memory once the guest runs, nor wait for a thread that does. A vCPU thread
//! inside KVM_RUN is told here that the page which its guest touches is broken; it goes on, since the guest has to be told.
//!
//! Everywhere else SIGBUS is what it always is: the end, with a message first.

use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::thread::JoinHandleExt;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU32, AtomicU64, Ordering};
use std::thread::JoinHandle;

use memory::ram::Ram;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use waiting::Waiter;

mod waiting;

/// Reports that the main loop has not yet fetched. There is at most one of each thread that waits.
const REPORTS: usize = 64;
/// Linux's smallest page: the bits of an address below it carry the [`Kind`] of a report.
const PAGE: u64 = 4096;

/// `BUS_MCEERR_AR` and `BUS_MCEERR_AO` of sigaction(2): broken memory was touched; was found, and nobody has touched it.
const BROKEN_TOUCHED: libc::c_int = 4;
const BROKEN_FOUND: libc::c_int = 5;

/// What has happened to a page of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A thread of ours waits for it: the host could not supply it.
    Missing = 1,
    /// A thread of ours waits for it: its memory is broken.
    Broken = 2,
    /// The kernel found its memory broken before anybody touched it.
    FoundBroken = 3,
}

/// A page of this process that somebody has to see to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BusError {
    /// Host address of the page of 4 KiB that was touched.
    pub address: u64,
    /// What happened to it.
    pub kind: Kind,
}

impl BusError {
    fn to_word(self) -> u64 {
        (self.address & !(PAGE - 1)) | u64::from(self.kind as u8)
    }

    fn from_word(word: u64) -> Option<BusError> {
        let kind = match word & (PAGE - 1) {
            1 => Kind::Missing,
            2 => Kind::Broken,
            3 => Kind::FoundBroken,
            _ => return None,
        };
        let address = word & !(PAGE - 1);
        Some(BusError { address, kind })
    }
}

/// Words of reports, 0 where there is none.
static MAILBOX: [AtomicU64; REPORTS] = [const { AtomicU64::new(0) }; REPORTS];
/// Futex word: changes when waiting threads shall try again.
static ROUND: AtomicU32 = AtomicU32::new(0);
/// Eventfd that wakes the main loop; -1 before [`BusErrors::watch`].
static WAKE: AtomicI32 = AtomicI32::new(-1);
/// Thread that must not wait for the main loop, because it is the main loop.
static MAIN_THREAD: AtomicI32 = AtomicI32::new(0);
/// Where guest memory is; null while it is being made.
static GUEST_MEMORY: AtomicPtr<Vec<Range<u64>>> = AtomicPtr::new(ptr::null_mut());

thread_local! {
    /// Whether this thread is in KVM_RUN. No destructors and no lazy start, so that a signal handler may look.
    static IN_GUEST: AtomicBool = const { AtomicBool::new(false) };
    /// Host address of the broken page that the guest touched, 0 for none.
    static GUEST_TOUCHED: AtomicU64 = const { AtomicU64::new(0) };
}

/// Runs `run`, which is KVM_RUN: also returns the host address of the broken page that the guest touched meanwhile.
pub fn in_guest<T>(run: impl FnOnce() -> T) -> (T, Option<u64>) {
    IN_GUEST.with(|flag| flag.store(true, Ordering::SeqCst));
    let result = run();
    IN_GUEST.with(|flag| flag.store(false, Ordering::SeqCst));
    let touched = GUEST_TOUCHED.with(|address| address.swap(0, Ordering::SeqCst));
    (result, (touched != 0).then_some(touched))
}

/// SIGBUS, made into something that the main loop can wait for.
#[derive(Debug)]
pub struct BusErrors(EventFd);

impl BusErrors {
    /// Installs the handler; the calling thread is the one that will serve it. Until [`BusErrors::guard`] every SIGBUS ends
    /// the process.
    pub fn watch() -> io::Result<BusErrors> {
        let wake = EventFd::new(EFD_NONBLOCK)?;
        MAIN_THREAD.store(rustix::thread::gettid().as_raw_nonzero().get(), Ordering::SeqCst);
        WAKE.store(wake.as_raw_fd(), Ordering::SeqCst);
        // SAFETY: an all-zero sigaction is a valid one; every field that matters is set below.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) = on_sigbus;
        action.sa_sigaction = handler as libc::sighandler_t;
        // The alternate stack is the one that Rust's runtime gives each thread; without one the thread's own serves.
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
        // SAFETY: the handler has the signature that SA_SIGINFO asks for, and makes async-signal-safe calls only.
        if unsafe { libc::sigaction(libc::SIGBUS, &raw const action, ptr::null_mut()) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // Broken pages are told when they are found, not only when they are touched. Threads to come inherit it; a kernel
        // that does not handle broken memory refuses it (EINVAL).
        // SAFETY: changes nothing but this thread's policy (prctl(2), PR_MCE_KILL).
        let early = unsafe {
            libc::prctl(
                libc::PR_MCE_KILL,
                libc::PR_MCE_KILL_SET,
                libc::PR_MCE_KILL_EARLY,
                0,
                0,
            )
        };
        if early != 0 {
            let error = io::Error::last_os_error();
            tracing::debug!("broken memory will only be told of when it is touched: {error}");
        }
        Ok(BusErrors(wake))
    }

    /// From here on threads that miss a page of `ram` wait; `ram` must be there to the end of the process.
    pub fn guard(ram: &Ram) {
        let ranges: Vec<Range<u64>> = (ram.regions().iter())
            .map(|region| region.host_address()..region.host_address() + region.guest().len)
            .collect();
        // A list that was there before stays for good: a handler may be reading it.
        GUEST_MEMORY.store(Box::into_raw(Box::new(ranges)), Ordering::SeqCst);
    }

    /// The eventfd to wait on.
    pub fn wake(&self) -> &EventFd {
        &self.0
    }

    /// What happened since the last call.
    pub fn take(&self) -> Vec<BusError> {
        // An empty counter (EAGAIN) only means that there may be nothing.
        let _ = self.0.read();
        let words = MAILBOX.iter().map(|slot| slot.swap(0, Ordering::SeqCst));
        words.filter_map(BusError::from_word).collect()
    }

    /// Whether `thread`, which nobody has joined, waits for a page. It goes on after [`BusErrors::retry`] only.
    pub fn waits<T>(thread: &JoinHandle<T>) -> bool {
        Waiter::is_there(thread.as_pthread_t(), ROUND.load(Ordering::SeqCst))
    }

    /// Makes all waiting threads try again.
    pub fn retry() {
        ROUND.fetch_add(1, Ordering::SeqCst);
        // SAFETY: FUTEX_WAKE only uses the address of the word, which is static.
        unsafe {
            libc::syscall(
                libc::SYS_futex,
                ROUND.as_ptr(),
                libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG,
                i32::MAX,
            )
        };
    }
}

/// What to do about a SIGBUS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// Tell the main loop, wait for it, and try the instruction again.
    Wait(Kind),
    /// Tell the main loop and go on.
    Tell(Kind),
    /// Let the vCPU's thread tell the guest.
    TellGuest,
    /// Guest memory could not be had before there is anybody to wait for.
    EndStart,
    /// The end. `sent`: by kill(2) or the like, so that it does not come again by itself.
    Crash { sent: bool },
}

/// The circumstances of a SIGBUS.
#[derive(Clone, Copy, Debug)]
struct Scene {
    /// `si_code` of sigaction(2).
    code: libc::c_int,
    /// Whether the guest's memory is known; it is not while it is being made.
    started: bool,
    /// Whether the address is in it.
    in_ram: bool,
    main_thread: bool,
    in_guest: bool,
}

fn judge(scene: Scene) -> Verdict {
    match scene.code {
        // SI_USER, SI_QUEUE, SI_TKILL: not from the kernel (sigaction(2)).
        ..=0 => Verdict::Crash { sent: true },
        BROKEN_FOUND => Verdict::Tell(Kind::FoundBroken),
        BROKEN_TOUCHED if scene.in_guest => Verdict::TellGuest,
        _ if !scene.started => Verdict::EndStart,
        _ if !scene.in_ram || scene.main_thread => Verdict::Crash { sent: false },
        BROKEN_TOUCHED => Verdict::Wait(Kind::Broken),
        _ => Verdict::Wait(Kind::Missing),
    }
}

/// The handler. Only async-signal-safe calls (signal-safety(7)), no locks, no allocation; errno is put back.
extern "C" fn on_sigbus(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: with SA_SIGINFO the kernel passes a siginfo_t; si_addr is read as a number, whatever the code.
    let (code, address) = unsafe { ((*info).si_code, (*info).si_addr().addr() as u64) };
    // SAFETY: gettid cannot fail and touches no memory.
    let thread = unsafe { libc::syscall(libc::SYS_gettid) };
    // SAFETY: null, or leaked by `guard`, so that it is there for good and never changes.
    let ranges = unsafe { GUEST_MEMORY.load(Ordering::SeqCst).as_ref() };
    let scene = Scene {
        code,
        started: ranges.is_some(),
        in_ram: ranges.is_some_and(|ranges| ranges.iter().any(|range| range.contains(&address))),
        main_thread: thread == libc::c_long::from(MAIN_THREAD.load(Ordering::SeqCst)),
        in_guest: IN_GUEST.with(|flag| flag.load(Ordering::SeqCst)),
    };
    // SAFETY: the address of this thread's errno, always valid.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    let before = unsafe { *errno };
    match judge(scene) {
        Verdict::Wait(kind) => wait(BusError { address, kind }),
        Verdict::Tell(kind) => post(BusError { address, kind }),
        Verdict::TellGuest => GUEST_TOUCHED.with(|touched| touched.store(address, Ordering::SeqCst)),
        Verdict::EndStart => {
            say(
                "ballast: no memory for the guest while it was being filled or its kernel loaded: not enough free memory or \
                 huge pages, or its file is too short; host address ",
                address,
            );
            // SAFETY: async-signal-safe; nothing of the guest has run.
            unsafe { libc::_exit(1) };
        }
        Verdict::Crash { sent } => {
            say(
                "ballast: bus error at an address that is not guest memory, or in the main thread: this is a bug in Ballast, \
                 or its executable has changed; host address ",
                address,
            );
            // Ends the process with a core dump at the place where it happened: the instruction is tried again.
            // SAFETY: both are async-signal-safe.
            unsafe {
                libc::signal(libc::SIGBUS, libc::SIG_DFL);
                if sent {
                    libc::raise(libc::SIGBUS);
                }
            }
        }
    }
    // SAFETY: as above.
    unsafe { *errno = before };
}

/// Waits until the main loop says that it is worth trying again.
fn wait(error: BusError) {
    // Read before the main loop can know: its answer is a change from this.
    let round = ROUND.load(Ordering::SeqCst);
    // SAFETY: reads the thread's own handle, and is async-signal-safe.
    let waiter = Waiter::enter(unsafe { libc::pthread_self() }, round);
    post(error);
    while ROUND.load(Ordering::SeqCst) == round {
        // SAFETY: FUTEX_WAIT reads the static word, and returns when it is no longer `round`, or on a signal.
        unsafe {
            libc::syscall(
                libc::SYS_futex,
                ROUND.as_ptr(),
                libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG,
                round,
                ptr::null::<libc::timespec>(),
            );
        }
    }
    if let Some(waiter) = waiter {
        waiter.leave();
    }
}

/// Leaves a report for the main loop and wakes it. With no slot left, those in them have it look after this page too.
fn post(error: BusError) {
    let empty = |slot: &&AtomicU64| {
        slot.compare_exchange(0, error.to_word(), Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
    };
    let _ = MAILBOX.iter().find(empty);
    let one = 1_u64.to_ne_bytes();
    // SAFETY: write reads eight bytes of ours. A full counter (EAGAIN) has woken the main loop already.
    unsafe { libc::write(WAKE.load(Ordering::SeqCst), one.as_ptr().cast(), one.len()) };
}

/// Writes a text and a number to standard error, without the formatting machinery, which may allocate.
fn say(text: &str, number: u64) {
    let mut digits = *b"0x0000000000000000\n";
    let digit = |nibble: u8| b"0123456789abcdef"[usize::from(nibble)];
    for (pair, byte) in digits[2..].chunks_exact_mut(2).zip(number.to_be_bytes()) {
        (pair[0], pair[1]) = (digit(byte >> 4), digit(byte & 0xf));
    }
    for part in [text.as_bytes(), &digits] {
        // SAFETY: write reads bytes that live through the call.
        unsafe { libc::write(libc::STDERR_FILENO, part.as_ptr().cast(), part.len()) };
    }
}

#[cfg(test)]
mod tests;
