//! Python in the lab host, with the package `qemu.qmp`: the programs with which people speak QMP today.
//!
//! Nothing is installed on this machine: the distribution's interpreter is downloaded and unpacked, the package comes
//! from PyPI.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::cache::{Cache, Key};
use super::image::Contents;
use super::paths::Paths;
use super::{Error, Result, debian, elf, process};

/// The test program whose lab host gets Python.
const WANTED_BY: &str = "qmp";
/// The package and its exact file, in the form of pip's requirements.
const REQUIREMENT: &str =
    "qemu.qmp==0.0.6 --hash=sha256:5d7c5af0e9de427696e3bf72e333965c3a697929f77f6b7ddc30c989fc7b539b\n";
/// Parts of the standard library that only weigh.
const WITHOUT: [&str; 6] = [
    "__pycache__",
    "test",
    "idlelib",
    "lib2to3",
    "pydoc_data",
    "ensurepip",
];
/// Where an interpreter of this machine or of unpacked packages has its library, and shared libraries lie.
const LIBRARY: [&str; 2] = ["usr/lib64", "usr/lib"];
const SHARED: [&str; 5] = [
    "usr/lib/x86_64-linux-gnu",
    "lib/x86_64-linux-gnu",
    "usr/lib64",
    "lib64",
    "usr/lib",
];

/// Adds Python to what a lab host holds, for the test program that needs it.
pub fn add(contents: &mut Contents, test: &str, paths: &Paths) -> Result<()> {
    if test == WANTED_BY || test.ends_with(&format!("::{WANTED_BY}")) {
        let python = Python::find(paths)?;
        python.add(contents)?;
    }
    Ok(())
}

#[derive(Debug)]
struct Python {
    /// The file system in which it lies: unpacked packages, or this machine.
    root: PathBuf,
    /// `python3.11`, say: the name of the interpreter and of its library's directory.
    name: String,
    /// The unpacked package.
    package: PathBuf,
}

impl Python {
    fn find(paths: &Paths) -> Result<Python> {
        let cache = Cache::new(paths.lab());
        let (root, name) = interpreter(paths, &cache)?;
        let key = Key::new().with(REQUIREMENT);
        let log = paths.logs().join("qemu-qmp.log");
        let package = cache.entry("qemu-qmp", key, |to| download(to, &log))?;
        Ok(Python { root, name, package })
    }

    fn add(&self, contents: &mut Contents) -> Result<()> {
        let program = self.root.join("usr/bin").join(&self.name);
        let library = LIBRARY
            .iter()
            .map(|directory| self.root.join(directory).join(&self.name))
            .find(|directory| directory.join("os.py").is_file());
        let library =
            library.ok_or_else(|| Error::Failed(format!("there is no library of {}", program.display())))?;
        let place = Path::new("/usr/lib").join(&self.name);
        let mut files = Vec::new();
        collect(&library, &place, &mut files)?;
        collect(&self.package.join("qemu"), &place.join("qemu"), &mut files)?;
        self.add_libraries(&program, &files, contents)?;
        contents.files.append(&mut files);
        contents.files.push(("/usr/bin/python3".into(), program));
        Ok(())
    }

    /// The shared libraries of the interpreter and of its modules; a module that lacks one cannot be imported, which
    /// nobody here does.
    fn add_libraries(
        &self,
        program: &Path,
        files: &[(PathBuf, PathBuf)],
        contents: &mut Contents,
    ) -> Result<()> {
        let directories = SHARED.map(|directory| self.root.join(directory));
        let mut libraries = elf::libraries(program, &directories)?;
        let modules = files
            .iter()
            .filter(|(place, _)| place.extension().is_some_and(|extension| extension == "so"));
        for (_, module) in modules {
            libraries.extend(elf::libraries(module, &directories).unwrap_or_default());
        }
        contents.libraries(libraries)
    }
}

/// The distribution's newest Python as unpacked packages, elsewhere this machine's.
fn interpreter(paths: &Paths, cache: &Cache) -> Result<(PathBuf, String)> {
    let none = || Error::Failed("there is no python3".into());
    if !debian::here() {
        let program = process::find("python3").ok_or_else(none)?;
        let program = fs::canonicalize(&program).map_err(Error::file("find", &program))?;
        let name = program
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        return Ok(("/".into(), name));
    }
    let log = paths.logs().join("python.log");
    let package = debian::newest("python3.", "-minimal", &log)?.ok_or_else(none)?;
    let name = package.trim_end_matches("-minimal").to_owned();
    let library = format!("lib{name}-stdlib");
    let mut packages = debian::library_packages(&[&package, &library])?;
    packages.push(package);
    let key = Key::new().with(debian::identity(&packages)?);
    let root = cache.entry("python", key, |root| debian::unpack(&packages, root, &log))?;
    Ok((root, name))
}

/// Fetches the package and unpacks it.
fn download(to: &Path, log: &Path) -> Result<()> {
    let requirement = to.join("requirement.txt");
    fs::write(&requirement, REQUIREMENT).map_err(Error::file("write", &requirement))?;
    let mut pip = Command::new("pip3");
    pip.args([
        "download",
        "--no-deps",
        "--only-binary",
        ":all:",
        "--require-hashes",
    ]);
    pip.arg("--dest").arg(to).arg("--requirement").arg(&requirement);
    process::logged(&mut pip, log)?;
    for entry in fs::read_dir(to).map_err(Error::file("list", to))?.flatten() {
        if entry
            .path()
            .extension()
            .is_some_and(|extension| extension == "whl")
        {
            let mut unzip = Command::new("busybox");
            process::run(unzip.args(["unzip", "-q", "-d"]).arg(to).arg(entry.path()))?;
        }
    }
    Ok(())
}

/// The files below a directory, with the places that they get.
fn collect(from: &Path, to: &Path, files: &mut Vec<(PathBuf, PathBuf)>) -> Result<()> {
    for entry in fs::read_dir(from).map_err(Error::file("list", from))?.flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let weighs = WITHOUT.iter().any(|without| *without == name);
        if path.is_dir() && !weighs && !name.to_string_lossy().starts_with("config-") {
            collect(&path, &to.join(&name), files)?;
        } else if path.is_file() {
            files.push((to.join(&name), path));
        }
    }
    Ok(())
}
