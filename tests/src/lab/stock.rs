//! A distribution's own kernel: the lab host runs it, and so does the demo's guest.

use std::path::{Path, PathBuf};

use super::cache::{Cache, Key};
use super::modules::Modules;
use super::{Error, Result, debian};

/// Packages that hold a kernel, best first: what the name starts with, what it ends with, and the packages of modules
/// that go with it, `{}` being the version.
const PACKAGES: [(&str, &str, &[&str]); 4] = [
    ("linux-image-6.12.", "-cloud-amd64", &[]),
    ("linux-image-", "-cloud-amd64", &[]),
    ("linux-image-", "-virtual", &[]),
    ("linux-image-", "-generic", &["linux-modules-{}-generic"]),
];

/// A kernel image and its modules.
#[derive(Debug)]
pub struct Stock {
    /// The bzImage.
    pub image: PathBuf,
    /// The version, as `uname -r` says it.
    pub version: String,
    /// The kernel's modules.
    pub modules: Modules,
}

/// The newest kernel that apt has, else the newest of this machine's own.
pub fn find(cache: &Cache, log: &Path) -> Result<Stock> {
    if !debian::here() {
        return installed(Path::new("/boot"), Path::new("/lib/modules"));
    }
    for (prefix, suffix, extra) in PACKAGES {
        let Some(package) = debian::newest(prefix, suffix, log)? else {
            continue;
        };
        let version = package
            .trim_start_matches("linux-image-")
            .trim_end_matches(suffix);
        let mut packages: Vec<String> = extra.iter().map(|name| name.replace("{}", version)).collect();
        packages.push(package);
        let key = Key::new().with(debian::identity(&packages)?);
        let root = cache.entry("stock-kernel", key, |root| debian::unpack(&packages, root, log))?;
        let modules = [root.join("usr/lib/modules"), root.join("lib/modules")];
        let modules = modules
            .into_iter()
            .find(|path| path.is_dir())
            .unwrap_or_else(|| root.join("lib/modules"));
        return installed(&root.join("boot"), &modules);
    }
    installed(Path::new("/boot"), Path::new("/lib/modules"))
}

/// The newest kernel in a directory like `/boot` whose modules are there.
fn installed(boot: &Path, modules: &Path) -> Result<Stock> {
    let entries = std::fs::read_dir(boot).map_err(Error::file("list", boot))?;
    let versions = entries.filter_map(|entry| {
        let name = entry.ok()?.file_name().into_string().ok()?;
        let version = name.strip_prefix("vmlinuz-")?.to_owned();
        modules.join(&version).is_dir().then_some(version)
    });
    let version = versions.max().ok_or_else(|| {
        Error::Failed(format!(
            "no kernel vmlinuz-* in {} with modules in {}",
            boot.display(),
            modules.display()
        ))
    })?;
    Ok(Stock {
        image: boot.join(format!("vmlinuz-{version}")),
        modules: Modules::new(&modules.join(&version))?,
        version,
    })
}
