//! `-device`.

use super::keyval;
use super::near;
use super::properties::BALLOON;
use super::value::ValueError;

/// `-device virtio-balloon-pci`.
#[derive(Clone, Debug, PartialEq)]
pub struct BalloonArg {
    /// `id=`.
    pub id: String,
    /// `deflate-on-oom=`.
    pub deflate_on_oom: bool,
}

/// Both names that QEMU has for it.
const BALLOON_NAMES: [&str; 2] = ["virtio-balloon-pci", "virtio-balloon"];

/// `-device DRIVER,…`.
pub fn device(text: &str) -> Result<BalloonArg, ValueError> {
    let mut pairs = keyval::split(text, Some("driver"))?;
    let driver = match pairs.iter().position(|(key, _)| key == "driver") {
        Some(at) => pairs.remove(at).1,
        None => {
            return Err(ValueError::Missing {
                owner: "-device".to_owned(),
                name: "driver",
            });
        }
    };
    if !BALLOON_NAMES.contains(&driver.as_str()) {
        return Err(ValueError::UnknownType {
            what: "device",
            near: near::did_you_mean(&driver, "", BALLOON_NAMES),
            name: driver,
            accepted: BALLOON.owner.to_owned(),
        });
    }
    let properties = BALLOON.accept(pairs)?;
    if properties.switch("free-page-hint")? == Some(true) {
        return Err(ValueError::Refused {
            what: "free-page-hint=on",
            why: "without migration nothing can use a hint safely",
        });
    }
    Ok(BalloonArg {
        id: properties.id("id")?.unwrap_or_else(|| "balloon0".to_owned()),
        deflate_on_oom: properties.switch("deflate-on-oom")?.unwrap_or(false),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_balloon() {
        let arg = device("virtio-balloon-pci,id=b,deflate-on-oom").unwrap();
        assert_eq!(
            arg,
            BalloonArg {
                id: "b".to_owned(),
                deflate_on_oom: true
            }
        );
        let arg = device("driver=virtio-balloon,free-page-hint=off").unwrap();
        assert_eq!(
            arg,
            BalloonArg {
                id: "balloon0".to_owned(),
                deflate_on_oom: false
            }
        );
    }

    #[test]
    fn says_what_is_near_or_refused() {
        let text = |text| device(text).unwrap_err().to_string();
        assert_eq!(
            text("virtio-baloon-pci"),
            "unknown device 'virtio-baloon-pci', did you mean 'virtio-balloon-pci'?; known: virtio-balloon-pci"
        );
        assert!(text("virtio-balloon,deflate-on-omm=on").contains("did you mean 'deflate-on-oom'?"));
        assert!(text("virtio-balloon,free-page-hint=on").contains("without migration"));
        assert!(text("virtio-balloon,id=0x").contains("id=0x: expected a letter"));
        assert_eq!(text("id=x"), "-device needs 'driver=…'");
    }
}
