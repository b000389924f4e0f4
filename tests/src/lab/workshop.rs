//! Everything that a command needs before a guest can run: places, kernels, images, programs.

use std::io::{self, stdin, stdout};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::cache::Cache;
use super::choice::{self, Choice, Facts, Place};
use super::host::{Host, Outcome, Streams};
use super::image::Contents;
use super::paths::Paths;
use super::setup::{self, Purpose};
use super::stock::{self, Stock};
use super::tiny::{self, Tiny};
use super::{Result, build, guest, terminal};
use crate::job::Job;

/// The names under which kernels and images lie in `/lab` of the lab host.
pub mod names {
    /// The tiny kernel as an ELF file.
    pub const TINY_ELF: &str = "/lab/vmlinux-tiny";
    /// The tiny kernel as a bzImage.
    pub const TINY_IMAGE: &str = "/lab/bzImage-tiny";
    /// The distribution's kernel.
    pub const STOCK: &str = "/lab/vmlinuz-debian";
    /// The guest's initramfs.
    pub const GUEST: &str = "/lab/guest.cpio";
    /// The disk of a distribution, in lab hosts that have it.
    pub const DISTRIBUTION: &str = "/lab/debian/disk.qcow2";
    /// The kernel of that distribution.
    pub const DISTRIBUTION_KERNEL: &str = "/lab/debian/vmlinuz";
    /// The initramfs of that kernel.
    pub const DISTRIBUTION_INITRD: &str = "/lab/debian/initrd.img";
    /// The key that lets root in over the network.
    pub const DISTRIBUTION_KEY: &str = "/lab/debian/key";
}

/// What is there to run guests with.
#[derive(Debug)]
pub struct Workshop {
    /// Where things lie.
    pub paths: Paths,
    /// Where guests run.
    pub choice: Choice,
    /// The distribution's kernel.
    pub stock: Stock,
    /// Our programs.
    pub programs: build::Programs,
    /// The guest's initramfs.
    pub guest: PathBuf,
}

/// Chooses where guests run and installs what that needs.
///
/// The choice is told first, but to make it on a machine with hardware KVM, QEMU has to be there.
pub fn choose(paths: &Paths, purpose: Purpose, direct: bool, tell: impl FnOnce(&Choice)) -> Result<Choice> {
    let facts = Facts::gather(|| setup::ensure(purpose, paths))?;
    let choice = choice::choose(&facts, direct)?;
    tell(&choice);
    setup::ensure(purpose, paths)?;
    Ok(choice)
}

impl Workshop {
    /// Prepares all but the tiny kernel.
    pub fn new(paths: Paths, choice: Choice) -> Result<Workshop> {
        let cache = Cache::new(paths.lab());
        let stock = stock::find(&cache, &paths.logs().join("stock-kernel.log"))?;
        let programs = build::programs(&paths)?;
        let guest = paths.lab().join("guest.cpio");
        let partial = guest.with_extension(format!("{}", std::process::id()));
        guest::write(&paths, &cache, &stock, &programs.agent, &partial)?;
        std::fs::rename(&partial, &guest).map_err(super::Error::file("rename", &partial))?;
        Ok(Workshop {
            paths,
            choice,
            stock,
            programs,
            guest,
        })
    }

    /// The tiny kernel, built if need be.
    pub fn tiny(&self) -> Result<Tiny> {
        tiny::find(&self.paths, &Cache::new(self.paths.lab()))
    }

    /// What every lab host holds, with a job.
    pub fn contents(&self, job: Job, tiny: Option<&Tiny>) -> Contents {
        let mut files: Vec<(PathBuf, PathBuf)> = vec![
            (names::STOCK.into(), self.stock.image.clone()),
            (names::GUEST.into(), self.guest.clone()),
        ];
        if let Some(tiny) = tiny {
            files.push((names::TINY_ELF.into(), tiny.elf.clone()));
            files.push((names::TINY_IMAGE.into(), tiny.image.clone()));
        }
        let mut contents = Contents {
            init: self.programs.init.clone(),
            files,
            job,
        };
        contents.program(&self.programs.ballast);
        contents
    }

    /// Runs the contents' job in a lab host.
    pub fn run(
        &self,
        name: &str,
        contents: &Contents,
        streams: Streams,
        patience: Option<Duration>,
    ) -> Result<Outcome> {
        let log = self.paths.logs().join(format!("{name}.log"));
        // A wish for `direct` never gets here: those commands need no lab host.
        let place = if self.choice.place == Place::LabKvm {
            Place::LabKvm
        } else {
            Place::LabTcg
        };
        Host {
            place,
            stock: &self.stock,
            log,
            patience,
        }
        .run(contents, streams)
    }

    /// Runs a command in a lab host with our own terminal or streams attached.
    pub fn attach(&self, name: &str, command: Vec<String>, extra: &[PathBuf]) -> Result<Outcome> {
        let size = terminal::size();
        let directory = std::env::current_dir().map_err(super::Error::file("find", Path::new(".")))?;
        let job = Job {
            command,
            environment: Vec::new(),
            directory,
            terminal: size,
        };
        let mut contents = self.contents(job, Some(&self.tiny()?));
        contents
            .files
            .extend(extra.iter().map(|path| (path.clone(), path.clone())));
        let streams = Streams {
            input: Some(Box::new(stdin())),
            output: Box::new(stdout()),
            error: Box::new(io::stderr()),
        };
        let _raw = size.and_then(|_| terminal::Raw::new());
        self.run(name, &contents, streams, None)
    }
}
