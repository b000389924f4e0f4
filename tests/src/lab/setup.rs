//! What the lab needs of the machine: looked for, and installed where we may.

use std::path::Path;

use super::paths::Paths;
use super::{Error, Result, debian, elf, process};

/// How to see whether something is there.
#[derive(Clone, Copy, Debug)]
enum Sign {
    /// A program in PATH.
    Program(&'static str),
    /// A program in PATH that is linked statically.
    StaticProgram(&'static str),
    /// A file.
    File(&'static str),
}

/// Something needed, and the package that has it under each package manager of [`MANAGERS`].
#[derive(Clone, Copy, Debug)]
struct Need {
    sign: Sign,
    packages: [&'static str; 4],
}

const fn need(sign: Sign, packages: [&'static str; 4]) -> Need {
    Need { sign, packages }
}

/// Package managers: the program, and the start of the line that installs.
const MANAGERS: [(&str, &str); 4] = [
    (
        "apt-get",
        "apt-get update && apt-get install --no-install-recommends",
    ),
    ("dnf", "dnf install"),
    ("pacman", "pacman -S"),
    ("zypper", "zypper install"),
];

/// For the demo and for everything else: the lab host and the images.
const ALWAYS: [Need; 4] = [
    need(
        Sign::Program("qemu-system-x86_64"),
        [
            "qemu-system-x86",
            "qemu-system-x86-core",
            "qemu-system-x86",
            "qemu-x86",
        ],
    ),
    need(
        Sign::StaticProgram("busybox"),
        ["busybox-static", "busybox", "busybox", "busybox-static"],
    ),
    need(Sign::Program("xz"), ["xz-utils", "xz", "xz", "xz"]),
    need(Sign::Program("zstd"), ["zstd", "zstd", "zstd", "zstd"]),
];

/// For the tiny kernel and the tests.
const FOR_TESTS: [Need; 12] = [
    need(Sign::Program("cc"), ["gcc", "gcc", "gcc", "gcc"]),
    need(Sign::Program("make"), ["make", "make", "make", "make"]),
    need(Sign::Program("flex"), ["flex", "flex", "flex", "flex"]),
    need(Sign::Program("bison"), ["bison", "bison", "bison", "bison"]),
    need(Sign::Program("bc"), ["bc", "bc", "bc", "bc"]),
    need(
        Sign::File("/usr/include/gelf.h"),
        ["libelf-dev", "elfutils-libelf-devel", "libelf", "libelf-devel"],
    ),
    need(
        Sign::File("/usr/include/openssl/evp.h"),
        ["libssl-dev", "openssl-devel", "openssl", "libopenssl-devel"],
    ),
    // Fetches the Python package that speaks QMP.
    need(
        Sign::Program("pip3"),
        ["python3-pip", "python3-pip", "python-pip", "python3-pip"],
    ),
    // Counts the system calls of the balloon.
    need(Sign::Program("strace"), ["strace", "strace", "strace", "strace"]),
    // Makes and checks images of disks.
    need(
        Sign::Program("qemu-img"),
        ["qemu-utils", "qemu-img", "qemu-img", "qemu-tools"],
    ),
    // Serves disks by vhost-user.
    need(
        Sign::Program("qemu-storage-daemon"),
        ["qemu-system-common", "qemu-img", "qemu-base", "qemu-tools"],
    ),
    // libFuzzer is C++.
    need(Sign::Program("c++"), ["g++", "gcc-c++", "gcc", "gcc-c++"]),
];

/// To make the disk of a distribution, and to log in to it by network.
const FOR_DISTRIBUTION: [Need; 5] = [
    need(
        Sign::Program("mmdebstrap"),
        ["mmdebstrap", "mmdebstrap", "mmdebstrap", "mmdebstrap"],
    ),
    need(
        Sign::File("/usr/share/keyrings/debian-archive-keyring.gpg"),
        [
            "debian-archive-keyring",
            "debian-keyring",
            "debian-archive-keyring",
            "debian-keyring",
        ],
    ),
    need(
        Sign::Program("sfdisk"),
        ["fdisk", "util-linux", "util-linux", "util-linux"],
    ),
    need(
        Sign::Program("mke2fs"),
        ["e2fsprogs", "e2fsprogs", "e2fsprogs", "e2fsprogs"],
    ),
    need(
        Sign::Program("ssh"),
        ["openssh-client", "openssh-clients", "openssh", "openssh-clients"],
    ),
];

/// Files of a distribution belong to several users, and only root can make such files.
const WITHOUT_ROOT: Need = need(
    Sign::Program("fakeroot"),
    ["fakeroot", "fakeroot", "fakeroot", "fakeroot"],
);

/// Times that packages are installed at most: apt takes out a package of another release that does not go with a new one (the tools
/// of QEMU out of backports, say, for its emulator out of the release), and what the package had is missing only then.
const ROUNDS: usize = 2;

/// Which of the needs are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To run guests.
    Guests,
    /// To run guests and every test.
    Tests,
    /// To make and use the disk of a distribution.
    Distribution,
}

impl Purpose {
    fn needs(self) -> Vec<Need> {
        match self {
            Purpose::Guests => ALWAYS.to_vec(),
            Purpose::Tests => [ALWAYS.as_slice(), FOR_TESTS.as_slice()].concat(),
            Purpose::Distribution => {
                let mut needs = FOR_DISTRIBUTION.to_vec();
                if !rustix::process::geteuid().is_root() {
                    needs.push(WITHOUT_ROOT);
                }
                needs
            }
        }
    }
}

/// Sees to it that everything is there, or says which line installs what is not.
pub fn ensure(purpose: Purpose, paths: &Paths) -> Result<()> {
    let needs = purpose.needs();
    let absent = || {
        needs
            .iter()
            .filter(|need| !need.sign.is_there())
            .collect::<Vec<_>>()
    };
    let mut missing = absent();
    let rounds = if debian::here() && debian::may_install() {
        ROUNDS
    } else {
        0
    };
    for _round in 0..rounds {
        if missing.is_empty() {
            break;
        }
        let packages: Vec<&str> = missing.iter().map(|need| need.packages[0]).collect();
        eprintln!("lab: installing {}", packages.join(" "));
        debian::install(&packages, &paths.logs().join("install.log"))?;
        missing = absent();
    }
    if missing.is_empty() {
        Ok(())
    } else {
        Err(advice(&missing))
    }
}

fn advice(missing: &[&Need]) -> Error {
    let known = MANAGERS
        .iter()
        .position(|(program, _)| process::find(program).is_some());
    let manager = known.unwrap_or(0);
    let packages: Vec<&str> = missing.iter().map(|need| need.packages[manager]).collect();
    let line = match known {
        Some(_) => format!("{} {}", MANAGERS[manager].1, packages.join(" ")),
        None => format!(
            "your package manager; under Debian the packages are {}",
            packages.join(" ")
        ),
    };
    let missing: Vec<&str> = missing.iter().map(|need| need.sign.name()).collect();
    Error::Missing {
        missing: missing.join(", "),
        line,
    }
}

impl Sign {
    fn name(self) -> &'static str {
        match self {
            Sign::Program(name) | Sign::StaticProgram(name) | Sign::File(name) => name,
        }
    }

    fn is_there(self) -> bool {
        match self {
            Sign::Program(name) => process::find(name).is_some(),
            Sign::StaticProgram(name) => process::find(name)
                .is_some_and(|path| elf::needed(&path).is_ok_and(|libraries| libraries.is_empty())),
            Sign::File(path) => Path::new(path).exists(),
        }
    }
}
