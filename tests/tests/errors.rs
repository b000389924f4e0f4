//! Bad input gets one clear line before anything starts, exit code 1, and leaves nothing behind.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tests::harness::hugepages::{ALL_2M, Pool};
use tests::harness::vm::PROGRAM;
use tests::harness::{Error, Result, names};

const HUGE: &str = "/dev/hugepages";
const SHM: &str = "/dev/shm";
/// The group of `/dev/kvm` on usual machines, as in the lab host's `/etc/group`.
const KVM_GROUP: u32 = 100;
const NOBODY: u32 = 65534;

/// What a start that failed said, and its exit code.
#[derive(Debug)]
struct Failure {
    code: Option<i32>,
    said: String,
}

fn program() -> OsString {
    std::env::var_os(PROGRAM).unwrap_or_else(|| "ballast".into())
}

fn run(command: &mut Command) -> Result<Failure> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|source| Error::Run {
            program: "ballast".into(),
            source,
        })?;
    Ok(Failure {
        code: output.status.code(),
        said: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

impl Failure {
    /// Whether it is one line, from Ballast, with all of the words, and exit code 1.
    fn is_clear(&self, words: &[&str]) -> bool {
        let said = &self.said;
        let one_line = said.starts_with("ballast: ") && said.ends_with('\n') && said.lines().count() == 1;
        self.code == Some(1) && one_line && words.iter().all(|word| said.contains(word))
    }
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(directory).map_err(Error::file("list", directory))?;
    Ok(entries.flatten().map(|entry| entry.path()).collect())
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(path, bytes).map_err(Error::file("write", path))
}

/// Arguments and what the message has to name. `K` stands for the tiny kernel with its initramfs, `TINY` for that kernel
/// alone, `DIR` for the directory of [`prepare`], `LONG` for a long name.
const CASES: &[(&str, &[&str])] = &[
    // Kernels and initramfs.
    ("-m 128", &["-kernel"]),
    ("-kernel DIR/none", &["DIR/none", "No such file"]),
    ("-kernel DIR", &["'DIR'"]),
    ("-kernel DIR/text", &["DIR/text", "not a bzImage"]),
    ("-kernel DIR/empty", &["DIR/empty", "not a bzImage"]),
    ("-kernel DIR/cut", &["DIR/cut", "cut off"]),
    ("-kernel TINY -initrd DIR/none", &["DIR/none", "No such file"]),
    ("-kernel TINY -initrd DIR/empty", &["DIR/empty", "empty"]),
    ("-m 128 -kernel TINY -initrd DIR/large", &["DIR/large", "130 MiB"]),
    // Sizes.
    ("K -m 0", &["-m", "0"]),
    ("K -m 12x", &["12x"]),
    (
        "K -m 0 -object memory-backend-ram,id=a,size=0 -machine memory-backend=a",
        &["'a'", "size 0"],
    ),
    (
        "K -m 129M -object memory-backend-memfd,id=a,size=129M,hugetlb=on -machine memory-backend=a",
        &["'a'", "129 MiB", "2 MiB"],
    ),
    (
        "K -m 128 -object memory-backend-ram,id=a,size=64M -machine memory-backend=a",
        &["'a'", "128 MiB", "64 MiB"],
    ),
    ("K -smp 0", &["-smp"]),
    (
        "K -m 9999999G",
        &["9999999 GiB", "physical address", "make it smaller"],
    ),
    (
        "K -m 32T -overcommit check=refuse",
        &[
            "backend 'ram' 32 TiB",
            "page tables",
            "available on this host",
            "check=warn",
        ],
    ),
    (
        "K -m 4G -object memory-backend-ram,id=a,size=4G,host-nodes=1,policy=bind -machine memory-backend=a \
         -overcommit check=refuse",
        &["4 GiB of memory on node 1 (backend 'a' 4 GiB)", "available there"],
    ),
    // Backends.
    ("K -m 128 -machine memory-backend=b", &["'b'"]),
    (
        "K -m 128 -object memory-backend-ram,id=a,size=128M -numa node,memdev=b",
        &["'b'", "a"],
    ),
    (
        "K -object memory-backend-epc,id=a",
        &["memory-backend-epc", "memory-backend-ram"],
    ),
    (
        "K -object memory-backend-ram,id=a,size=128M,prealoc=on",
        &["'prealoc'", "prealloc", "host-nodes"],
    ),
    (
        "K -object memory-backend-ram,id=a,size=128M,share=maybe",
        &["maybe", "on"],
    ),
    (
        "K -device virtio-balloon-pci,deflate=on",
        &["'deflate'", "deflate-on-oom"],
    ),
    (
        "K -device virtio-gpu-pci",
        &["virtio-gpu-pci", "virtio-balloon-pci"],
    ),
    (
        "K -m 128 -object memory-backend-ram,id=a,size=128M,merge=on,share=on -machine memory-backend=a",
        &["'a'", "merge=on", "share"],
    ),
    (
        "K -m 128 -object memory-backend-memfd,id=a,size=128M,merge=on,hugetlb=on -machine memory-backend=a",
        &["'a'", "merge=on"],
    ),
    (
        "K -m 128 -object memory-backend-ram,id=a,size=128M,prealloc=on,reserve=off -machine memory-backend=a",
        &["'a'", "prealloc=on", "reserve=off"],
    ),
    (
        "K -m 128 -object memory-backend-ram,id=a,size=128M,host-nodes=7,policy=bind -machine memory-backend=a",
        &["'a'", "node 7", "0-1"],
    ),
    (
        "K -m 128 -object memory-backend-ram,id=a,size=128M,policy=bind -machine memory-backend=a",
        &["id=a", "policy", "host-nodes"],
    ),
    ("K -m 128 -mem-path DIR/none", &["DIR/none", "No such file"]),
    ("K -m 128 -mem-path DIR/text", &["DIR/text", "not a directory"]),
    // Huge pages, with the numbers: the pool has 20 pages, 4 of them on node 1.
    (
        "K -m 128 -mem-path /dev/hugepages -mem-prealloc",
        &["needs 64 pages of 2 MiB: 20 free (20 in the pool, 0 reserved)"],
    ),
    (
        "K -m 128 -mem-path /dev/hugepages",
        &["needs 64 pages of 2 MiB: 20 free (20 in the pool, 0 reserved)"],
    ),
    (
        "K -m 64 -object memory-backend-memfd,id=mem0,size=64M,hugetlb=on,prealloc=on,host-nodes=1,policy=bind -machine memory-backend=mem0",
        &["backend 'mem0' needs 32 pages of 2 MiB on node 1: 4 free (4 in the pool, 0 reserved)"],
    ),
    // The command line.
    ("K -mem-perallo", &["'-mem-perallo'", "-mem-prealloc"]),
    ("K -frobnicate", &["'-frobnicate'", "--help"]),
    ("K stray", &["'stray'"]),
    ("K -m", &["-m"]),
    (
        "K -serial stdio -monitor stdio",
        &["-serial stdio", "-monitor stdio"],
    ),
    ("K -serial file:DIR/none/x", &["DIR/none/x"]),
    ("K -qmp tcp:localhost:4444,server=on,wait=off", &["-qmp", "unix:"]),
    // Sockets.
    ("K -qmp unix:DIR/LONG,server=on,wait=off", &["DIR/LONG", "107"]),
    (
        "K -qmp unix:DIR/living,server=on,wait=off",
        &["'DIR/living'", "in use"],
    ),
    (
        "K -monitor unix:DIR/living,server=on,wait=off",
        &["'DIR/living'", "in use"],
    ),
    (
        "K -qmp unix:DIR/text,server=on,wait=off",
        &["'DIR/text'", "not a socket"],
    ),
    (
        "K -qmp unix:DIR/none/x,server=on,wait=off",
        &["'DIR/none/x'", "No such file"],
    ),
    (
        "K -qmp unix:DIR/s,server=on,wait=off -monitor unix:DIR/s,server=on,wait=off",
        &["'DIR/s'", "twice"],
    ),
];

/// A directory with one of everything that cannot be used, and the two sockets that `CASES` speak of.
fn prepare() -> Result<(tempfile::TempDir, UnixListener)> {
    let directory = tempfile::tempdir().map_err(Error::file("create", Path::new("/tmp")))?;
    let place = |name: &str| directory.path().join(name);
    write(&place("text"), "not a kernel\n".repeat(1000).as_bytes())?;
    write(&place("empty"), b"")?;
    let kernel = fs::read(names::TINY_IMAGE).map_err(Error::file("read", Path::new(names::TINY_IMAGE)))?;
    write(&place("cut"), &kernel[..kernel.len() / 2])?;
    let large = fs::File::create(place("large")).and_then(|file| file.set_len(130 << 20));
    large.map_err(Error::file("write", &place("large")))?;
    let living = UnixListener::bind(place("living")).map_err(Error::file("listen on", &place("living")))?;
    Ok((directory, living))
}

#[test]
#[ignore = "needs the lab: cargo lab test"]
fn bad_input_is_refused_in_one_line_and_leaves_nothing() -> Result<()> {
    let nodes = [Pool::node_2m(0).set(16)?, Pool::node_2m(1).set(4)?];
    let pool = ALL_2M.pages()?;
    let (directory, _living) = prepare()?;
    let base = directory.path().to_string_lossy().into_owned();
    let before =
        [directory.path(), Path::new(HUGE), Path::new(SHM)].map(|path| entries(path).map(|all| all.len()));
    let [own, huge, shared] = before;
    let (own, huge, shared) = (own?, huge?, shared?);
    let fill = |text: &str| {
        let kernel = format!("-kernel {} -initrd {}", names::TINY_ELF, names::GUEST);
        let words = text
            .split(' ')
            .map(|word| if word == "K" { kernel.as_str() } else { word });
        let text = words.collect::<Vec<_>>().join(" ");
        text.replace("TINY", names::TINY_ELF)
            .replace("DIR", &base)
            .replace("LONG", &"x".repeat(120))
    };
    let mut unclear = Vec::new();
    for (line, words) in CASES {
        // A socket of its own, which is bound before most mistakes are found, and which has to go again.
        let line = fill(&format!("run -qmp unix:DIR/own,server=on,wait=off {line}"));
        let words: Vec<String> = words.iter().map(|word| fill(word)).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let failure = run(Command::new(program()).args(line.split(' ')))?;
        if !failure.is_clear(&words) {
            unclear.push(format!(
                "{line}\n    expected {words:?}\n    got {:?} {}",
                failure.code, failure.said
            ));
        }
        assert_eq!(entries(directory.path())?.len(), own, "{line}");
        assert_eq!(entries(Path::new(HUGE))?.len(), huge, "{line}");
        assert_eq!(entries(Path::new(SHM))?.len(), shared, "{line}");
        assert_eq!(ALL_2M.pages()?, pool, "{line}");
    }
    assert!(unclear.is_empty(), "{}", unclear.join("\n"));
    drop(nodes);
    Ok(())
}

#[test]
#[ignore = "needs the lab: cargo lab test"]
fn a_stale_socket_is_replaced() -> Result<()> {
    let directory = tempfile::tempdir().map_err(Error::file("create", Path::new("/tmp")))?;
    let path = directory.path().join("stale");
    drop(UnixListener::bind(&path).map_err(Error::file("listen on", &path))?);
    assert!(UnixStream::connect(&path).is_err() && path.exists());
    let mut vm = tests::harness::vm::Launch::tiny()
        .line("-S -m 128 -qmp")
        .arg(format!("unix:{},server=on,wait=off", path.display()))
        .start()?;
    let connected = tests::harness::vm::eventually(std::time::Duration::from_secs(10), || {
        Ok(UnixStream::connect(&path).is_ok())
    })?;
    assert!(connected, "{}", vm.errors.text());
    vm.kill()
}

#[test]
#[ignore = "needs the lab: cargo lab test"]
fn a_kvm_that_cannot_be_used_is_explained() -> Result<()> {
    let device = Path::new("/dev/kvm");
    let line = format!("run -m 64 -kernel {} -initrd {}", names::TINY_ELF, names::GUEST);
    let words = || line.split_whitespace();

    // Not in the group: its name and what to type.
    let mode = fs::metadata(device)
        .map_err(Error::file("find", device))?
        .permissions();
    chown(device, Some(0), Some(KVM_GROUP)).map_err(Error::file("give away", device))?;
    fs::set_permissions(device, fs::Permissions::from_mode(0o660)).map_err(Error::file("change", device))?;
    let refused = run(Command::new(program()).args(words()).uid(NOBODY).gid(NOBODY));
    chown(device, Some(0), Some(0)).map_err(Error::file("take back", device))?;
    fs::set_permissions(device, mode).map_err(Error::file("change", device))?;
    let failure = refused?;
    assert!(
        failure.is_clear(&[
            "no permission to open /dev/kvm",
            "group 'kvm'",
            "usermod -aG kvm 65534",
        ]),
        "{failure:?}"
    );

    // In a world of its own where there is none, and one where the processor does not show that it could.
    let program = program();
    let program = program.to_string_lossy();
    let world = |change: &str| {
        run(Command::new("/bin/busybox")
            .args(["unshare", "-m", "sh", "-c"])
            .arg(format!("{change} && exec {program} {line}")))
    };
    let missing = world("mount -t tmpfs none /dev")?;
    let failure = missing;
    assert!(failure.is_clear(&["no /dev/kvm", "modprobe"]), "{failure:?}");
    let hidden = tempfile::NamedTempFile::new().map_err(Error::file("create", Path::new("/tmp")))?;
    let path = hidden.path().display();
    let software = world(&format!(
        "sed -e 's/ svm / /g' -e 's/ vmx / /g' /proc/cpuinfo > {path} && mount --bind {path} /proc/cpuinfo"
    ))?;
    let failure = software;
    assert!(
        failure.is_clear(&["cannot run a guest kernel", "vmx", "svm", "software KVM"]),
        "{failure:?}"
    );
    Ok(())
}
