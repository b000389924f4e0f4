//! Signals: those that end Ballast, as a file descriptor; and SIGBUS, which a missing page of guest memory raises.
//!
//! A thread of ours that touches guest memory which the host cannot supply gets SIGBUS. Its handler notes the address,
//! wakes the main loop and waits on a futex; when the main loop lets it go, the instruction is tried again. So the main
//! loop itself must never touch guest memory once the guest runs.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd};
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering};

use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};
use vmm_sys_util::signal::register_signal_handler;

/// The signals that ask Ballast to end.
const ENDING: [libc::c_int; 3] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP];

/// A signalfd for SIGINT, SIGTERM and SIGHUP, which are blocked in this thread and all that it starts.
#[derive(Debug)]
pub struct EndingSignals(File);

impl EndingSignals {
    /// Blocks the signals and opens the descriptor. Call before the first other thread.
    pub fn new() -> io::Result<EndingSignals> {
        // SAFETY: an all-zero sigset_t is valid memory for sigemptyset to fill.
        let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
        // SAFETY: `set` is ours; the signal numbers are constants of the system.
        unsafe {
            libc::sigemptyset(&raw mut set);
            for signal in ENDING {
                libc::sigaddset(&raw mut set, signal);
            }
        }
        // SAFETY: reads `set`, writes nothing.
        let error = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
        if error != 0 {
            return Err(io::Error::from_raw_os_error(error));
        }
        // SAFETY: reads `set`; -1 asks for a new descriptor.
        let fd = unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: signalfd returned this descriptor just now; nobody else owns it.
        Ok(EndingSignals(unsafe { File::from_raw_fd(fd) }))
    }

    /// The number of the next signal that has arrived.
    pub fn take(&mut self) -> Option<u32> {
        // A signalfd_siginfo is 128 bytes and starts with ssi_signo (signalfd(2)).
        let mut info = [0; 128];
        match self.0.read(&mut info) {
            Ok(128) => Some(u32::from_ne_bytes([info[0], info[1], info[2], info[3]])),
            _ => None,
        }
    }
}

impl AsFd for EndingSignals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Host address of the last access that failed.
static ADDRESS: AtomicU64 = AtomicU64::new(0);
/// Futex word: changes when waiting threads shall try again.
static ROUND: AtomicU32 = AtomicU32::new(0);
/// Eventfd that wakes the main loop; -1 before [`MissingPages::watch`].
static WAKE: AtomicI32 = AtomicI32::new(-1);
/// Thread that must not wait for the main loop, because it is the main loop.
static MAIN_THREAD: AtomicI32 = AtomicI32::new(0);

/// SIGBUS, made into something that the main loop can wait for.
#[derive(Debug)]
pub struct MissingPages(EventFd);

impl MissingPages {
    /// Installs the handler; the calling thread is the one that will serve it.
    pub fn watch() -> io::Result<MissingPages> {
        let wake = EventFd::new(EFD_NONBLOCK)?;
        MAIN_THREAD.store(rustix::thread::gettid().as_raw_nonzero().get(), Ordering::SeqCst);
        WAKE.store(wake.as_raw_fd(), Ordering::SeqCst);
        register_signal_handler(libc::SIGBUS, on_sigbus)
            .map_err(|error| io::Error::from_raw_os_error(error.errno()))?;
        Ok(MissingPages(wake))
    }

    /// The eventfd to wait on.
    pub fn wake(&self) -> &EventFd {
        &self.0
    }

    /// Host address of the access that failed, if there was one since the last call.
    pub fn take(&self) -> Option<u64> {
        self.0.read().ok().map(|_| ADDRESS.load(Ordering::SeqCst))
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

/// What happens in the thread that touched the missing page. Only async-signal-safe calls (signal-safety(7)).
extern "C" fn on_sigbus(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: for SIGBUS with SA_SIGINFO the kernel passes a siginfo_t whose si_addr is the address of the fault.
    let address = unsafe { (*info).si_addr() }.addr();
    // SAFETY: gettid cannot fail and touches no memory.
    let thread = unsafe { libc::syscall(libc::SYS_gettid) };
    if thread == libc::c_long::from(MAIN_THREAD.load(Ordering::SeqCst)) {
        let text = b"ballast: a page of guest memory could not be had while the guest was being loaded: not enough free \
                     memory or huge pages of its backend\n";
        // SAFETY: write and _exit are async-signal-safe; the text is static.
        unsafe {
            libc::write(2, text.as_ptr().cast(), text.len());
            libc::_exit(1);
        }
    }
    ADDRESS.store(u64::try_from(address).unwrap_or(0), Ordering::SeqCst);
    let round = ROUND.load(Ordering::SeqCst);
    let one = 1_u64.to_ne_bytes();
    // SAFETY: write reads eight bytes of ours; FUTEX_WAIT reads the static word and returns when it is no longer `round`,
    // or on a signal: then the access fails again, and this handler runs again.
    unsafe {
        libc::write(WAKE.load(Ordering::SeqCst), one.as_ptr().cast(), one.len());
        let wait = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
        libc::syscall(
            libc::SYS_futex,
            ROUND.as_ptr(),
            wait,
            round,
            std::ptr::null::<libc::timespec>(),
        );
    }
}
