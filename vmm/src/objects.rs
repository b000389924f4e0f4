//! Memory backends that were added while the machine runs, and that no node of the guest uses.

use std::io;
use std::thread;

use memory::backend::{BackendSpec, Lock, Prealloc};
use memory::ram::{OpenBackend, PreallocListener, Ram, RamError};

use crate::cli::memory_options::ObjectArg;
use crate::config::BackendDefaults;

/// Why an object does not come or go.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is one with that id. In QEMU's words.
    #[error("attempt to add duplicate property '{0}' to object (type 'container')")]
    Duplicate(String),
    /// There is none with that id.
    #[error("object '{0}' not found")]
    Unknown(String),
    /// The guest has it.
    #[error("object '{0}' is in use, can not be deleted")]
    InUse(String),
    /// It would have to be there at once.
    #[error(
        "backend '{0}': lock=on fills it before it is used, for which a machine that runs does not wait: use lock=on-fault"
    )]
    Locked(String),
    /// The host does not give it.
    #[error(transparent)]
    Memory(#[from] RamError),
    /// Nobody can fill it.
    #[error("cannot start the thread that fills it")]
    Thread(#[source] io::Error),
}

/// The backends, oldest first.
pub struct Objects {
    defaults: BackendDefaults,
    listener: PreallocListener,
    backends: Vec<OpenBackend>,
}

impl Objects {
    /// None yet. `listener` hears of preallocations that end.
    pub fn new(defaults: BackendDefaults, listener: PreallocListener) -> Objects {
        Objects {
            defaults,
            listener,
            backends: Vec::new(),
        }
    }

    /// With those of the command line, mapped only: the rest is for the start of the machine, and then [`Objects::fill`].
    ///
    /// # Errors
    /// [`Error`] when the host does not give what was asked.
    pub fn open(
        specs: &[BackendSpec],
        defaults: BackendDefaults,
        listener: PreallocListener,
    ) -> Result<Objects, Error> {
        let mut objects = Objects::new(defaults, listener);
        for spec in specs {
            objects.backends.push(OpenBackend::open(spec)?);
        }
        Ok(objects)
    }

    /// Begins the preallocations that run beside the guest.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn fill(&self) -> io::Result<()> {
        let mut backends = self.backends.iter();
        backends.try_for_each(|backend| backend.fill_beside_guest(&self.listener))
    }

    /// Who hears of preallocations that end.
    pub fn listener(&self) -> &PreallocListener {
        &self.listener
    }

    /// The start has come to its end: files that were made for it stay.
    pub fn started(&self) {
        self.backends.iter().for_each(OpenBackend::started);
    }

    /// Those that there are.
    pub fn backends(&self) -> &[OpenBackend] {
        &self.backends
    }

    /// Opens one more. A preallocation goes on after this returns.
    ///
    /// # Errors
    /// [`Error`] when its id is taken, or when the host does not give what was asked.
    pub fn add(&mut self, object: ObjectArg, ram: &Ram) -> Result<(), Error> {
        let spec = self.defaults.complete(object);
        if ram
            .backends()
            .iter()
            .chain(&self.backends)
            .any(|open| open.spec().id == spec.id)
        {
            return Err(Error::Duplicate(spec.id));
        }
        if spec.lock == Lock::On {
            return Err(Error::Locked(spec.id));
        }
        let backend = OpenBackend::open(&spec)?;
        backend.fill_beside_guest(&self.listener).map_err(Error::Thread)?;
        // The main loop waits for nobody: this too is filled while it goes on.
        if spec.prealloc == Prealloc::On {
            backend.fill().map_err(Error::Thread)?;
        }
        backend.started();
        self.backends.push(backend);
        Ok(())
    }

    /// Takes one away. Its memory goes back to the host a little later: for much memory that takes long.
    ///
    /// # Errors
    /// [`Error`] when there is none, or when the guest has it.
    pub fn remove(&mut self, id: &str, ram: &Ram) -> Result<(), Error> {
        let has_id = |backend: &OpenBackend| backend.spec().id == id;
        let Some(index) = self.backends.iter().position(has_id) else {
            return Err(match ram.backends().iter().any(has_id) {
                true => Error::InUse(id.to_owned()),
                false => Error::Unknown(id.to_owned()),
            });
        };
        let backend = self.backends.remove(index);
        // A file that was made for it stays, although the start may not have come to its end.
        backend.started();
        // Where there is no thread, the closure and what it has are dropped here.
        let dropping = thread::Builder::new().name("unmap".to_owned());
        if let Err(error) = dropping.spawn(move || drop(backend)) {
            tracing::debug!("backend '{id}' was unmapped by the main thread: {error}");
        }
        Ok(())
    }
}

impl std::fmt::Debug for Objects {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Objects")
            .field("backends", &self.backends)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
