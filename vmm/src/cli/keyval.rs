//! QEMU's `key=value,key=value`: `,,` is a comma, a bare key means `=on`, and the first key may be left out.

use super::value::ValueError;

/// A key and its value.
pub type Pair = (String, String);

/// Splits `text`. Where the first part has no `=` and `implied` is given, that part is the value of `implied`.
///
/// ```
/// # use vmm::cli::keyval::split;
/// let pairs = split("memory-backend-file,mem-path=/tmp/a,,b,share", Some("qom-type"))?;
/// assert_eq!(pairs[0], ("qom-type".to_owned(), "memory-backend-file".to_owned()));
/// assert_eq!(pairs[1], ("mem-path".to_owned(), "/tmp/a,b".to_owned()));
/// assert_eq!(pairs[2], ("share".to_owned(), "on".to_owned()));
/// # Ok::<(), vmm::cli::ValueError>(())
/// ```
pub fn split(text: &str, implied: Option<&str>) -> Result<Vec<Pair>, ValueError> {
    let mut pairs = Vec::new();
    let mut rest = text;
    let mut implied = implied;
    while !rest.is_empty() {
        let end = rest.find(['=', ',']);
        let named = end.filter(|at| rest[*at..].starts_with('='));
        let pair = match (named, implied.take()) {
            (Some(at), _) => {
                let (value, after) = value(&rest[at + 1..]);
                let key = rest[..at].to_owned();
                rest = after;
                (key, value)
            }
            (None, Some(key)) => {
                let (value, after) = value(rest);
                rest = after;
                (key.to_owned(), value)
            }
            (None, None) => {
                let at = end.unwrap_or(rest.len());
                let key = rest[..at].to_owned();
                rest = rest[at..].strip_prefix(',').unwrap_or_default();
                (key, "on".to_owned())
            }
        };
        if pair.0.is_empty() {
            return Err(ValueError::EmptyName);
        }
        pairs.push(pair);
    }
    Ok(pairs)
}

/// Takes out of `pairs` what `kind=` says that the rest describes.
pub(super) fn typed(
    mut pairs: Vec<Pair>,
    owner: &'static str,
    kind: &'static str,
) -> Result<(String, Vec<Pair>), ValueError> {
    let at = pairs.iter().position(|(key, _)| key == kind);
    let at = at.ok_or_else(|| ValueError::Missing {
        owner: owner.to_owned(),
        name: kind,
    })?;
    let (_, word) = pairs.remove(at);
    Ok((word, pairs))
}

/// The value at the start of `text`, its doubled commas made single, and what follows the comma that ends it.
fn value(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(',') {
        value.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        match rest.strip_prefix(',') {
            Some(after) => {
                value.push(',');
                rest = after;
            }
            None => return (value, rest),
        }
    }
    value.push_str(rest);
    (value, "")
}

/// Reads QEMU's words for on and off.
pub fn switch(name: &str, value: &str) -> Result<bool, ValueError> {
    match value {
        "on" | "yes" | "true" | "y" => Ok(true),
        "off" | "no" | "false" | "n" => Ok(false),
        _ => Err(ValueError::Property {
            name: name.to_owned(),
            value: value.to_owned(),
            expected: "on or off (also yes, no, true, false)".to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests;
