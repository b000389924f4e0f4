//! Getting a vCPU thread out of the guest from another thread.
//!
//! A signal alone is not enough: one that lands just before KVM_RUN is lost. So `immediate_exit` in the vCPU's shared
//! page is set first (Documentation/virt/kvm/api.rst, 5): KVM_RUN then returns EINTR at once, whenever it is entered.

use std::os::fd::AsRawFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, Ordering};

use kvm_bindings::kvm_run;
use kvm_ioctls::VcpuFd;
use vmm_sys_util::signal::{SIGRTMIN, register_signal_handler};

/// The signal that interrupts KVM_RUN; its handler does nothing.
fn kick_signal() -> libc::c_int {
    SIGRTMIN()
}

extern "C" fn ignore(_: libc::c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {}

/// Installs the do-nothing handler of the kick signal; once, before the first vCPU thread.
pub fn install_handler() -> Result<(), vmm_sys_util::errno::Error> {
    register_signal_handler(kick_signal(), ignore)
}

/// A second view of a vCPU's `immediate_exit` byte, for other threads than the vCPU's own.
#[derive(Debug)]
pub struct ExitFlag {
    run: NonNull<kvm_run>,
    length: usize,
}

// SAFETY: the pointer is to a mapping that this value alone unmaps; all access to it is by an atomic byte.
unsafe impl Send for ExitFlag {}
// SAFETY: as above.
unsafe impl Sync for ExitFlag {}

impl ExitFlag {
    /// Maps the shared page of `vcpu`; `length` is the VM's `run_size`.
    pub fn map(vcpu: &VcpuFd, length: usize) -> std::io::Result<ExitFlag> {
        // SAFETY: a new mapping at an address of the kernel's choice; nothing else is touched.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                vcpu.as_raw_fd(),
                0,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(std::io::Error::last_os_error());
        }
        let run = NonNull::new(address.cast()).ok_or_else(std::io::Error::last_os_error)?;
        Ok(ExitFlag { run, length })
    }

    fn set(&self) {
        // SAFETY: the mapping lives as long as self and starts with a kvm_run, whose immediate_exit is one byte that the
        // kernel only reads.
        let flag = unsafe { AtomicU8::from_ptr(&raw mut (*self.run.as_ptr()).immediate_exit) };
        flag.store(1, Ordering::SeqCst);
    }
}

impl Drop for ExitFlag {
    fn drop(&mut self) {
        // SAFETY: mapped by `map` with this length; no reference to it outlives self.
        unsafe { libc::munmap(self.run.as_ptr().cast(), self.length) };
    }
}

/// Kicks one vCPU thread out of the guest.
#[derive(Debug)]
pub struct Kicker {
    /// None while the thread has no vCPU.
    flag: Option<ExitFlag>,
    thread: libc::pthread_t,
}

impl Kicker {
    /// For a thread that runs vCPUs. It must outlive the kicker: vCPU threads end only when their gate is removed, after the
    /// last kick.
    pub fn new(thread: &std::thread::JoinHandle<()>) -> Kicker {
        use std::os::unix::thread::JoinHandleExt;
        Kicker {
            flag: None,
            thread: thread.as_pthread_t(),
        }
    }

    /// The thread runs the vCPU of `flag` from now on, or none.
    pub fn set_vcpu(&mut self, flag: Option<ExitFlag>) {
        self.flag = flag;
    }

    /// Makes the vCPU leave KVM_RUN, or not stay in the next one. The thread itself clears the flag when it goes on.
    pub fn kick(&self) {
        if let Some(flag) = &self.flag {
            flag.set();
        }
        // SAFETY: the thread has not been joined, because its JoinHandle is kept beside this kicker in vcpu_thread.rs.
        unsafe { libc::pthread_kill(self.thread, kick_signal()) };
    }
}
