//! Transparent huge pages of the host (Documentation/admin-guide/mm/transhuge.rst).

use std::fs;

const THP: &str = "/sys/kernel/mm/transparent_hugepage";

/// What the host has chosen in a file such as `enabled`: the word in brackets of `always [madvise] never`. `None` on a kernel
/// without transparent huge pages.
#[must_use]
pub fn choice(file: &str) -> Option<String> {
    let text = fs::read_to_string(format!("{THP}/{file}")).ok()?;
    chosen(&text)
}

fn chosen(text: &str) -> Option<String> {
    let (_, rest) = text.split_once('[')?;
    rest.split_once(']').map(|(word, _)| word.to_owned())
}

/// What the host does, as the end of a sentence about why it did not.
pub(crate) fn state() -> String {
    let word = |file| choice(file).unwrap_or_else(|| "not there".to_owned());
    format!(
        ": in {THP}, enabled is {} (private memory), shmem_enabled is {} (shared memory)",
        word("enabled"),
        word("shmem_enabled")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_word_in_brackets() {
        assert_eq!(chosen("always [madvise] never\n").as_deref(), Some("madvise"));
        assert_eq!(chosen("always madvise never\n"), None);
        assert_eq!(chosen(""), None);
    }
}
