//! `-cpu`: the host's processor, with or without single features.

use super::keyval::{self, Pair};
use super::near;
use super::properties::CPU;
use super::value::ValueError;
use crate::cpu_features::{CpuFeatures, FeatureError, names};

/// The only model.
const HOST: &str = "host";

/// `-cpu host,+FEATURE,-FEATURE,FEATURE=on|off,…`.
pub fn cpu(text: &str) -> Result<CpuFeatures, ValueError> {
    let mut pairs = keyval::split(text, Some("model"))?;
    let (kind, model) = match pairs.is_empty() {
        true => (String::new(), String::new()),
        false => pairs.remove(0),
    };
    if kind != "model" || model != HOST {
        return Err(ValueError::CpuModel {
            model: text.split(',').next().unwrap_or_default().to_owned(),
        });
    }
    let (own, features): (Vec<Pair>, Vec<Pair>) = pairs
        .into_iter()
        .partition(|(name, _)| CPU.properties().any(|property| property.name == name));
    let own = CPU.accept(own)?;
    own.switch("migratable")?;
    for checked in ["check", "enforce"] {
        own.only(checked, &["on"])?;
    }
    let mut wanted = CpuFeatures::default();
    for (name, value) in features {
        let signed = name.strip_prefix('+').map(|name| (name, true));
        match signed.or_else(|| Some((name.strip_prefix('-')?, false))) {
            // A bare word has the value on.
            Some((name, on)) if value == "on" => wanted.set(name, on).map_err(with_near)?,
            Some(_) => {
                return Err(ValueError::Property {
                    name,
                    value,
                    expected: "no value after + or -".to_owned(),
                });
            }
            None => {
                let on = keyval::switch(&name, &value);
                // A misspelt name comes before its value.
                wanted
                    .set(&name, *on.as_ref().unwrap_or(&true))
                    .map_err(with_near)?;
                on?;
            }
        }
    }
    wanted.check()?;
    Ok(wanted)
}

/// Says which name is near to one that is not known.
fn with_near(error: FeatureError) -> FeatureError {
    let FeatureError::Unknown { name, .. } = error else {
        return error;
    };
    FeatureError::Unknown {
        near: near::did_you_mean(&name, "", names()),
        name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        cpu(text).unwrap_err().to_string()
    }

    #[test]
    fn takes_features_off_and_asks_for_them() {
        let features = cpu("host,-avx2,+x2apic,rdrand=off,sse4_1,migratable=off,enforce").unwrap();
        assert!(features.on().eq(["sse4.1", "x2apic"]));
        assert!(
            ["avx2", "avx512f", "rdrand"]
                .iter()
                .all(|name| features.off().contains(name))
        );
        assert_eq!(cpu("host"), Ok(CpuFeatures::default()));
    }

    #[test]
    fn says_what_is_wrong() {
        for (text, part) in [
            ("qemu64", "there is no model 'qemu64', only host"),
            ("", "there is no model ''"),
            ("+avx2", "there is no model '+avx2'"),
            ("max,+avx", "there is no model 'max'"),
            (
                "host,+avx512vll",
                "'avx512vll' is no feature that a processor can have, did you mean 'avx512vl'?",
            ),
            ("host,level=7", "'level' is no feature"),
            ("host,+avx2=off", "+avx2=off: expected no value after + or -"),
            ("host,avx2=maybe", "avx2=maybe: expected on or off"),
            ("host=x", "there is no model 'host=x'"),
            ("host,+avx2,-avx2", "'avx2' is both on and off"),
            (
                "host,+avx2,-avx",
                "'avx2' is on, but it is nothing without 'avx', which is off",
            ),
            ("host,enforce=off", "enforce=off: expected on"),
            ("host,-ht", "'ht' follows from the sockets"),
            ("host,vmx-ept=off", "'vmx-ept' is a bit of an MSR"),
        ] {
            let text = error(text);
            assert!(text.contains(part), "{text}");
        }
    }
}
