//! The program `ballast`. Exit codes: 0 the guest ended, 1 an error before it started, 2 a failure while it ran.

use std::error::Error;
use std::process::ExitCode;

use vmm::cli::{self, Command};
use vmm::config::Config;
use vmm::control::Control;
use vmm::descriptors;
use vmm::doctor::Diagnosis;
use vmm::event_loop::MainLoop;
use vmm::host::bus_error::BusErrors;
use vmm::host::daemon::{self, Daemon, Side};
use vmm::host::footprint;
use vmm::host::pid_file::PidFile;
use vmm::host::signals::EndingSignals;
use vmm::log;
use vmm::machine::{Machine, Outcome};
use vmm::news;
use vmm::stage::{Freezer, Stage};
use vmm::told::chain;

/// An error before the guest ran.
const NOT_STARTED: u8 = 1;
/// A failure while it ran.
const FAILED: u8 = 2;

fn main() -> ExitCode {
    footprint::share_heap();
    match cli::parse(std::env::args_os()) {
        Ok(Command::Help(text)) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Ok(Command::Doctor) => {
            let diagnosis = Diagnosis::make();
            print!("{diagnosis}");
            if diagnosis.is_fit() {
                ExitCode::SUCCESS
            } else {
                ExitCode::from(NOT_STARTED)
            }
        }
        Ok(Command::Version) => {
            println!("ballast {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        Ok(Command::Run(args)) => run(args),
        Err(error) => report(&error, NOT_STARTED),
    }
}

fn run(args: cli::Args) -> ExitCode {
    let config = match Config::new(args) {
        Ok(config) => config,
        Err(error) => return report(&error, NOT_STARTED),
    };
    let daemon = match config.daemonize.then(daemon::split).transpose() {
        Ok(Some(Side::Left(code))) => return ExitCode::from(code),
        Ok(Some(Side::Daemon(daemon))) => Some(daemon),
        Ok(None) => None,
        Err(error) => return report(&error, NOT_STARTED),
    };
    log::start(config.verbose);
    descriptors::raise();
    for warning in &config.warnings {
        eprintln!("ballast: warning: {warning}");
    }
    // Taken away when all is over.
    let pid_file = config.pid_file.as_deref().map(PidFile::create).transpose();
    let _pid_file = match pid_file {
        Ok(file) => file,
        Err(error) => return report(&error, NOT_STARTED),
    };
    let main_loop = match prepare(&config, daemon) {
        Ok(main_loop) => main_loop,
        Err(error) => return report(&*error, NOT_STARTED),
    };
    match main_loop.run() {
        Ok(Outcome::Ended) => ExitCode::SUCCESS,
        Ok(Outcome::Failed) => ExitCode::from(FAILED),
        Ok(Outcome::NotStarted) => ExitCode::from(NOT_STARTED),
        Err(error) if error.is_of_start() => report(&error, NOT_STARTED),
        Err(error) => report(&error, FAILED),
    }
}

/// Everything up to the point where the guest runs, or only waits for its memory.
fn prepare(config: &Config, daemon: Option<Daemon>) -> Result<MainLoop, Box<dyn Error>> {
    let freezer = Freezer::from_environment();
    // Signals first: every thread inherits the mask.
    let signals = EndingSignals::new()?;
    let bus_errors = BusErrors::watch()?;
    let control = Control::bind(config)?;
    freezer.reached(Stage::Sockets);
    let (sender, receiver) = news::channel()?;
    let mut machine = Machine::build(config, &sender, freezer)?;
    if !config.start_paused {
        machine.cont(false)?;
    }
    Ok(MainLoop::new(
        config, machine, control, receiver, signals, bus_errors, daemon,
    ))
}

/// Prints an error and everything that caused it, on one line.
fn report(error: &dyn Error, code: u8) -> ExitCode {
    eprintln!("ballast: {}", chain(error));
    ExitCode::from(code)
}
