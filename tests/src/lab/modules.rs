//! Kernel modules with what they depend on, unpacked and in the order of loading.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Error, Result};

/// One module, ready for `insmod`.
#[derive(Clone, Debug)]
pub struct Module {
    /// The file's name, as in `kvm-amd.ko`.
    pub file: String,
    /// The module, not compressed.
    pub bytes: Vec<u8>,
}

/// The modules of one kernel.
#[derive(Debug)]
pub struct Modules {
    files: HashMap<String, PathBuf>,
}

impl Modules {
    /// The modules under `lib/modules/VERSION`.
    pub fn new(directory: &Path) -> Result<Modules> {
        let mut files = HashMap::new();
        let mut open = vec![directory.to_owned()];
        while let Some(directory) = open.pop() {
            for entry in fs::read_dir(&directory).map_err(Error::file("list", &directory))? {
                let path = entry.map_err(Error::file("list", &directory))?.path();
                if path.is_dir() && !path.is_symlink() {
                    open.push(path);
                } else if let Some(name) = module_name(&path) {
                    files.insert(name, path);
                }
            }
        }
        Ok(Modules { files })
    }

    /// The named modules and what they depend on, each after its dependencies. A name that is not there is built in
    /// (the machine says soon enough if it is not).
    pub fn closure(&self, names: &[&str]) -> Result<Vec<Module>> {
        let mut order = Vec::new();
        for name in names {
            self.visit(name, &mut order)?;
        }
        Ok(order)
    }

    fn visit(&self, name: &str, order: &mut Vec<Module>) -> Result<()> {
        let name = name.replace('-', "_");
        let Some(path) = self.files.get(&name) else {
            return Ok(());
        };
        let file = format!("{name}.ko");
        if order.iter().any(|module| module.file == file) {
            return Ok(());
        }
        let bytes = unpack(path)?;
        for dependency in dependencies(&bytes) {
            self.visit(&dependency, order)?;
        }
        order.push(Module { file, bytes });
        Ok(())
    }
}

/// The name of a module file, `-` and `_` being the same to the kernel.
fn module_name(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    let (stem, rest) = name.split_once(".ko")?;
    ["", ".xz", ".zst", ".gz"]
        .contains(&rest)
        .then(|| stem.replace('-', "_"))
}

/// What the `.modinfo` section says: strings `key=value`, each ended by a zero byte.
fn dependencies(module: &[u8]) -> Vec<String> {
    let depends = module
        .split(|byte| *byte == 0)
        .find_map(|text| text.strip_prefix(b"depends="));
    let names = String::from_utf8_lossy(depends.unwrap_or_default()).into_owned();
    names
        .split(',')
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

fn unpack(path: &Path) -> Result<Vec<u8>> {
    let program = match path.extension().and_then(|extension| extension.to_str()) {
        Some("xz") => "xz",
        Some("zst") => "zstd",
        Some("gz") => "gzip",
        _ => return fs::read(path).map_err(Error::file("read", path)),
    };
    let output = Command::new(program)
        .arg("-dcq")
        .arg(path)
        .output()
        .map_err(|source| Error::Start {
            command: program.to_owned(),
            source,
        })?;
    if output.status.success() {
        Ok(output.stdout)
    } else {
        Err(Error::Failed(format!(
            "{program} cannot unpack {}",
            path.display()
        )))
    }
}

#[cfg(test)]
mod tests;
