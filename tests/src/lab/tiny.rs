//! The tiny guest kernel: Linux 6.12 with `resources/guest/kernel.config`, as bzImage and as ELF.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::available_parallelism;

use super::cache::{Cache, Key};
use super::paths::Paths;
use super::{Error, Result, debian, process};

/// The package that holds the source.
const SOURCE: &str = "linux-source-6.12";

/// The two forms of the built kernel.
#[derive(Clone, Debug)]
pub struct Tiny {
    /// The bzImage.
    pub image: PathBuf,
    /// The ELF file, without symbols.
    pub elf: PathBuf,
}

/// The kernel, built when this configuration and this source have not been built before.
pub fn find(paths: &Paths, cache: &Cache) -> Result<Tiny> {
    let config_path = paths.resource("guest/kernel.config");
    let config = fs::read_to_string(&config_path).map_err(Error::file("read", &config_path))?;
    let log = paths.logs().join("tiny-kernel.log");
    let packages = [SOURCE.to_owned()];
    if debian::here() {
        debian::newest("linux-source-", "", &log)?;
    }
    let key = Key::new().with(&config).with(debian::identity(&packages)?);
    let directory = cache.entry("tiny-kernel", key, |directory| {
        println!(
            "lab: building the tiny guest kernel (some minutes, once); log: {}",
            log.display()
        );
        build(&config, &packages, directory, &log)
    })?;
    Ok(Tiny {
        image: directory.join("bzImage"),
        elf: directory.join("vmlinux"),
    })
}

fn build(config: &str, packages: &[String], directory: &Path, log: &Path) -> Result<()> {
    let work = directory.join("work");
    let (source, objects) = (work.join("source"), work.join("objects"));
    for path in [&source, &objects] {
        fs::create_dir_all(path).map_err(Error::file("create", path))?;
    }
    debian::unpack(packages, &work.join("package"), log)?;
    let tar = work.join("package/usr/src").join(format!("{SOURCE}.tar.xz"));
    process::run(
        Command::new("tar")
            .arg("-xf")
            .arg(&tar)
            .args(["--strip-components=1", "-C"])
            .arg(&source),
    )?;

    make(&source, &objects, &["tinyconfig"], log)?;
    let config_path = objects.join(".config");
    let tiny = fs::read_to_string(&config_path).map_err(Error::file("read", &config_path))?;
    fs::write(&config_path, tiny + "\n" + config).map_err(Error::file("write", &config_path))?;
    make(&source, &objects, &["olddefconfig"], log)?;
    let effective = fs::read_to_string(&config_path).map_err(Error::file("read", &config_path))?;
    check(config, &effective)?;
    make(&source, &objects, &["bzImage", "vmlinux"], log)?;

    keep(&objects.join("arch/x86/boot/bzImage"), &directory.join("bzImage"))?;
    let elf = directory.join("vmlinux");
    process::run(
        Command::new("strip")
            .arg("-o")
            .arg(&elf)
            .arg(objects.join("vmlinux")),
    )?;
    fs::remove_dir_all(&work).map_err(Error::file("remove", &work))
}

fn make(source: &Path, objects: &Path, targets: &[&str], log: &Path) -> Result<()> {
    let jobs = available_parallelism().map_or(1, usize::from);
    let mut command = Command::new("make");
    command
        .arg("-s")
        .arg(format!("-j{jobs}"))
        .arg("-C")
        .arg(source)
        .arg(format!("O={}", objects.display()));
    // Cargo's jobserver is not for the kernel's make.
    command
        .args(targets)
        .env_remove("MAKEFLAGS")
        .env_remove("CARGO_MAKEFLAGS")
        .env_remove("MFLAGS");
    command
        .env("KBUILD_BUILD_TIMESTAMP", "2026-01-01")
        .env("KBUILD_BUILD_USER", "lab")
        .env("KBUILD_BUILD_HOST", "lab");
    process::logged(&mut command, log)
}

/// Each line of our configuration stands in the effective one: Kconfig drops what it cannot do without a word.
fn check(config: &str, effective: &str) -> Result<()> {
    let setting = |line: &&str| line.starts_with("CONFIG_") || line.ends_with(" is not set");
    let lost = |line: &&str| {
        let name = line
            .trim_start_matches("# ")
            .split(['=', ' '])
            .next()
            .unwrap_or_default();
        let off = line.ends_with(" is not set");
        let mention = |other: &str| other.strip_prefix(name).is_some_and(|rest| rest.starts_with('='));
        // A symbol that no longer exists in this configuration is off as well.
        if off {
            effective.lines().any(mention)
        } else {
            !effective.lines().any(|other| other == *line)
        }
    };
    let lost: Vec<&str> = config.lines().filter(setting).filter(lost).collect();
    if lost.is_empty() {
        Ok(())
    } else {
        Err(Error::Failed(format!(
            "the kernel's configuration did not take: {}",
            lost.join(", ")
        )))
    }
}

fn keep(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).map(drop).map_err(Error::file("copy", from))
}

#[cfg(test)]
mod tests;
