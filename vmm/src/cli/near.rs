//! "Did you mean": the known name that is nearest to a misspelt one.

/// How alike two names must be, of 1.
const ALIKE: f64 = 0.75;

/// `, did you mean 'prefix`NAME`'?` for the name of `known` nearest to `name`, or nothing when none is near.
pub(super) fn did_you_mean<'a>(name: &str, prefix: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(name, known).map_or_else(String::new, |known| format!(", did you mean '{prefix}{known}'?"))
}

fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|known| {
            (
                strsim::normalized_damerau_levenshtein(name, known).max(prefix_likeness(name, known)),
                known,
            )
        })
        .filter(|(likeness, _)| *likeness >= ALIKE)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, known)| known)
}

/// A name that was cut short is near its whole, though many letters are missing.
fn prefix_likeness(name: &str, known: &str) -> f64 {
    if name.len() >= 3 && known.starts_with(name) {
        ALIKE
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::did_you_mean;

    #[test]
    fn finds_the_nearest_name_or_none() {
        let known = ["size", "share", "prealloc"];
        assert_eq!(did_you_mean("sise", "", known), ", did you mean 'size'?");
        assert_eq!(did_you_mean("pre", "-", known), ", did you mean '-prealloc'?");
        assert_eq!(did_you_mean("zzzzzz", "", known), "");
        assert_eq!(did_you_mean("", "", known), "");
    }
}
