//! Which shared libraries a program needs, asked from binutils' `readelf`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Error, Result, process};

/// The names of the libraries that a file asks for itself; none when it is linked statically.
pub fn needed(file: &Path) -> Result<Vec<String>> {
    let text = process::capture(Command::new("readelf").arg("-d").arg(file))?;
    Ok(text
        .lines()
        .filter(|line| line.contains("(NEEDED)"))
        .filter_map(bracketed)
        .collect())
}

/// Every library that a program needs, directly or not, by name, looked for in `directories`.
pub fn libraries(program: &Path, directories: &[PathBuf]) -> Result<BTreeMap<String, PathBuf>> {
    let mut found = BTreeMap::new();
    let mut open = needed(program)?;
    while let Some(name) = open.pop() {
        if found.contains_key(&name) {
            continue;
        }
        let path = directories
            .iter()
            .map(|directory| directory.join(&name))
            .find(|path| path.is_file());
        let path = path.ok_or_else(|| {
            Error::Failed(format!(
                "{} needs {name}, which is in none of {directories:?}",
                program.display()
            ))
        })?;
        open.extend(needed(&path)?);
        found.insert(name, path);
    }
    Ok(found)
}

fn bracketed(line: &str) -> Option<String> {
    let (_, rest) = line.split_once('[')?;
    rest.split_once(']').map(|(name, _)| name.to_owned())
}
