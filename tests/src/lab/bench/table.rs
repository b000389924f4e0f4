//! The figures as a table for people.

use super::budget::Row;

/// The head of the table.
pub fn head() -> String {
    line([
        "figure",
        "Ballast",
        "unit",
        "other",
        "ratio",
        "quartiles",
        "n",
        "budget",
        "kept",
    ])
}

/// A row of it.
pub fn row(row: &Row) -> String {
    let measured = &row.measured;
    let [low, high] = measured.quartiles.map(figure);
    line([
        &measured.name,
        &figure(measured.value),
        &measured.unit,
        &measured.against.as_ref().map_or_else(String::new, |other| {
            format!("{} {}", other.name, figure(other.value))
        }),
        &measured.ratio.map_or_else(String::new, figure),
        &format!("{low} - {high}"),
        &measured.samples.to_string(),
        &row.budget.map_or_else(String::new, |budget| budget.to_string()),
        row.within.map_or("", |within| if within { "yes" } else { "NO" }),
    ])
}

fn line(cells: [&str; 9]) -> String {
    let [
        name,
        value,
        unit,
        other,
        ratio,
        quartiles,
        samples,
        budget,
        within,
    ] = cells;
    let text = format!(
        "{name:<34} {value:>8} {unit:<7} {other:<24} {ratio:>6} {quartiles:>15} {samples:>5} {budget:<14} {within}"
    );
    text.trim_end().to_owned()
}

/// Three digits that count.
pub fn figure(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 || size == 0.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests;
