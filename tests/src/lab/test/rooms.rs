//! Where unsafe code may stand.

use std::fs;
use std::path::{Path, PathBuf};

use super::super::{Error, Result};

/// The crates that hold code, and those of them that refuse unsafe code themselves.
const CRATES: [&str; 5] = ["memory", "devices", "boot", "vmm", "tests"];
const SAFE: [&str; 3] = ["devices", "boot", "tests"];
/// The only files and directories with unsafe code.
const ROOMS: [&str; 5] = [
    "memory/src/sys.rs",
    "memory/src/mapping.rs",
    "memory/src/region.rs",
    "vmm/src/kvm",
    "vmm/src/host",
];
/// How unsafe code begins; without the word's end, so that this line is none of it.
const BEGINNINGS: [&str; 5] = ["{", "fn", "impl", "trait", "extern"];

/// Looks at every source file.
pub fn check(root: &Path) -> Result<()> {
    let mut wrong = Vec::new();
    for name in SAFE {
        let path = root.join(name).join("src/lib.rs");
        let text = fs::read_to_string(&path).map_err(Error::file("read", &path))?;
        if !text.contains("#![forbid(unsafe_code)]") {
            wrong.push(format!("{name}/src/lib.rs does not forbid unsafe code"));
        }
    }
    for path in CRATES
        .iter()
        .flat_map(|name| sources(&root.join(name).join("src")))
    {
        let short = path.strip_prefix(root).unwrap_or(&path);
        if ROOMS
            .iter()
            .any(|room| short.starts_with(room) || short == Path::new(room))
            || inside_room(short)
        {
            continue;
        }
        let text = fs::read_to_string(&path).map_err(Error::file("read", &path))?;
        for (number, _) in text.lines().enumerate().filter(|(_, line)| is_unsafe(line)) {
            wrong.push(format!(
                "{}:{}: unsafe code outside its rooms",
                short.display(),
                number + 1
            ));
        }
    }
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(Error::Failed(wrong.join("\n")))
    }
}

/// A room `foo.rs` has its tests in `foo/`, and a room `foo` may have a `foo.rs` beside it.
fn inside_room(short: &Path) -> bool {
    ROOMS.iter().any(|room| {
        short.starts_with(Path::new(room).with_extension("")) || short == Path::new(room).with_extension("rs")
    })
}

fn is_unsafe(line: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    let mut rest = code;
    while let Some((_, after)) = rest.split_once("unsafe ") {
        if BEGINNINGS.iter().any(|beginning| after.starts_with(beginning)) {
            return true;
        }
        rest = after;
    }
    false
}

fn sources(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Vec::new();
    };
    let paths = entries.flatten().map(|entry| entry.path());
    paths
        .flat_map(|path| {
            if path.is_dir() {
                sources(&path)
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                vec![path]
            } else {
                Vec::new()
            }
        })
        .collect()
}

#[cfg(test)]
mod tests;
