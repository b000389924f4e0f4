//! One measured figure, alone or beside another program's.

use serde::{Deserialize, Serialize};

use super::spread::Spread;

/// A figure of Ballast's, and the other's where there is one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// What it is, as in `boot.user-space`: the area comes first.
    pub name: String,
    /// The median.
    pub value: f64,
    /// The unit of the values.
    pub unit: String,
    /// The other's median.
    pub against: Option<Against>,
    /// The median of the ratios of pairs, Ballast's to the other's. It is not the ratio of the medians: what slows the
    /// machine for a while slows both of a pair.
    pub ratio: Option<f64>,
    /// The quartiles of the ratios of pairs, else of the values.
    pub quartiles: [f64; 2],
    /// How many pairs, or values, there were.
    pub samples: usize,
}

/// What a figure is compared with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Against {
    /// Whose it is.
    pub name: String,
    /// The median.
    pub value: f64,
}

impl Measured {
    /// A figure of ours alone; none without samples.
    pub fn alone(name: &str, unit: &str, samples: &[f64]) -> Option<Measured> {
        let spread = Spread::of(samples)?;
        Some(Measured {
            name: name.to_owned(),
            value: spread.median,
            unit: unit.to_owned(),
            against: None,
            ratio: None,
            quartiles: [spread.low, spread.high],
            samples: samples.len(),
        })
    }

    /// Pairs of ours and the other's, each measured one after the other; none without pairs.
    pub fn pairs(name: &str, unit: &str, other: &str, pairs: &[(f64, f64)]) -> Option<Measured> {
        let of = |pick: fn(&(f64, f64)) -> f64| Spread::of(&pairs.iter().map(pick).collect::<Vec<_>>());
        let (ours, theirs) = (of(|pair| pair.0)?, of(|pair| pair.1)?);
        // Without something to divide by there is nothing to compare.
        let ratios: Vec<f64> = pairs
            .iter()
            .filter(|pair| pair.1 > 0.0)
            .map(|pair| pair.0 / pair.1)
            .collect();
        let ratio = Spread::of(&ratios);
        let spread = ratio.unwrap_or(ours);
        Some(Measured {
            name: name.to_owned(),
            value: ours.median,
            unit: unit.to_owned(),
            against: Some(Against {
                name: other.to_owned(),
                value: theirs.median,
            }),
            ratio: ratio.map(|ratio| ratio.median),
            quartiles: [spread.low, spread.high],
            samples: pairs.len(),
        })
    }
}

#[cfg(test)]
mod tests;
