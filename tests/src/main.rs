//! `cargo lab`: the lab's command line.

use std::error::Error as _;
use std::process::ExitCode;

use tests::lab::bench::populate;
use tests::lab::cli::{HELP, Request};
use tests::lab::test::Selection;
use tests::lab::{Result, bench, demo, run, test};

fn main() -> ExitCode {
    match Request::parse(std::env::args_os().skip(1)).and_then(|request| act(&request)) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprint!("lab: {error}");
            let mut source = error.source();
            while let Some(cause) = source {
                eprint!(": {cause}");
                source = cause.source();
            }
            eprintln!();
            ExitCode::from(error.code())
        }
    }
}

fn act(request: &Request) -> Result<u8> {
    match request {
        Request::Run(arguments) => run::ballast(arguments),
        Request::Shell(command) => run::shell(command),
        Request::Help => {
            print!("{HELP}");
            Ok(0)
        }
        Request::Bench(selection) => bench::run(selection),
        Request::BenchHere(name) => bench::here(name),
        Request::BenchPopulate(words) => populate::run(words),
        Request::Demo => demo::run(),
        Request::DemoHere => demo::in_lab_host(),
        Request::Test { long, filter } => test::run(&Selection {
            long: *long,
            filter: filter.clone(),
        }),
    }
}
