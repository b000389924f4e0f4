//! Medians, quartiles and percentiles of samples.

/// The middle half of some samples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// A quarter of the samples is smaller.
    pub low: f64,
    /// Half of them are.
    pub median: f64,
    /// Three quarters are.
    pub high: f64,
}

impl Spread {
    /// Of samples in any order; none of no samples.
    pub fn of(samples: &[f64]) -> Option<Spread> {
        Some(Spread {
            low: quantile(samples, 0.25)?,
            median: quantile(samples, 0.5)?,
            high: quantile(samples, 0.75)?,
        })
    }
}

/// The value below which a share of the samples lies, 0 to 1, with straight lines between samples.
pub fn quantile(samples: &[f64], share: f64) -> Option<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().checked_sub(1)?;
    let place = share.clamp(0.0, 1.0) * index_to_f64(last);
    // The index of the sample at or below the place, found without a cast.
    let below = (0..=last).rev().find(|index| index_to_f64(*index) <= place)?;
    let above = (below + 1).min(last);
    Some(sorted[below] + (sorted[above] - sorted[below]) * (place - index_to_f64(below)))
}

/// The share of the samples that are at most so large, in percent.
pub fn percent_within(samples: &[f64], limit: f64) -> f64 {
    let within = samples.iter().filter(|sample| **sample <= limit).count();
    100.0 * index_to_f64(within) / index_to_f64(samples.len().max(1))
}

/// A number of samples as a float; no run has 2^32 of them.
fn index_to_f64(index: usize) -> f64 {
    f64::from(u32::try_from(index).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests;
