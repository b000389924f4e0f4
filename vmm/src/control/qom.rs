//! QEMU's object model, as far as its clients use it here: the balloon, at `/machine/peripheral/ID`.

use std::time::Duration;

use devices::virtio::balloon::BalloonHandle;
use serde_json::{Value, json};

use super::balloon_report;
use super::qmp::{Class, Failure};
use super::target::Target;

/// The property that is worth waiting for.
pub(super) const GUEST_STATS: &str = "guest-stats";

/// The type of the balloon.
const BALLOON: &str = "virtio-balloon-pci";

/// A property of the balloon.
struct Property {
    name: &'static str,
    /// Its type, as `qom-list` shows it.
    kind: &'static str,
    get: fn(&BalloonHandle) -> Value,
    set: Option<Setter>,
}

type Setter = fn(&BalloonHandle, &Value) -> Result<(), Failure>;

const fn read_only(name: &'static str, kind: &'static str, get: fn(&BalloonHandle) -> Value) -> Property {
    Property {
        name,
        kind,
        get,
        set: None,
    }
}

const INTERVAL: &str = "guest-stats-polling-interval";

const PROPERTIES: &[Property] = &[
    read_only("type", "string", |_| json!(BALLOON)),
    read_only(GUEST_STATS, "guest statistics", balloon_report::guest_stats),
    Property {
        name: INTERVAL,
        kind: "int",
        get: |balloon| json!(balloon.stats_interval().as_secs()),
        set: Some(set_interval),
    },
    read_only("min", "size", |balloon| json!(balloon.floor().bytes())),
    read_only("deflate-on-distress", "bool", |balloon| {
        json!(balloon.spec().deflate_on_distress)
    }),
    read_only("deflate-on-oom", "bool", |balloon| {
        offers(balloon, "deflate-on-oom")
    }),
    read_only("free-page-reporting", "bool", |balloon| {
        offers(balloon, "free-page-reporting")
    }),
    read_only("free-page-hint", "bool", |balloon| {
        offers(balloon, "free-page-hint")
    }),
    read_only("page-poison", "bool", |balloon| offers(balloon, "page-poison")),
];

/// Whether the device has a feature, as it took effect.
fn offers(balloon: &BalloonHandle, feature: &str) -> Value {
    json!(balloon.report().offered.contains(&feature))
}

/// What a path leads to.
enum Node<'a> {
    Container {
        path: &'static str,
        /// Name and type of the one thing in it.
        child: Option<(String, &'static str)>,
    },
    Balloon(&'a BalloonHandle),
}

/// Finds `path`: from the root, or, without a slash in front, the end of one.
fn find<'a>(target: &'a dyn Target, path: &str) -> Result<Node<'a>, Failure> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let absolute = path.starts_with('/');
    if let Some(balloon) = target.balloon() {
        let full = ["machine", "peripheral", balloon.id()];
        if full[..] == parts[..] || (!absolute && !parts.is_empty() && full.ends_with(&parts)) {
            return Ok(Node::Balloon(balloon));
        }
    }
    let container = |path, name: &str| Node::Container {
        path,
        child: Some((name.to_owned(), "child<container>")),
    };
    match parts[..] {
        [] if absolute => Ok(container("/", "machine")),
        ["machine"] => Ok(container("/machine", "peripheral")),
        ["machine", "peripheral"] => Ok(Node::Container {
            path: "/machine/peripheral",
            child: target
                .balloon()
                .map(|balloon| (balloon.id().to_owned(), "child<virtio-balloon-pci>")),
        }),
        _ => Err(Failure {
            class: Class::DeviceNotFound,
            desc: format!("Device '{path}' not found").into(),
        }),
    }
}

/// `qom-list`: the names and types of what is at `path`.
pub(super) fn list(target: &dyn Target, path: &str) -> Result<Value, Failure> {
    let entry = |name: &str, kind: &str| json!({ "name": name, "type": kind });
    Ok(match find(target, path)? {
        Node::Container { child, .. } => {
            let kind = std::iter::once(entry("type", "string"));
            kind.chain(child.iter().map(|(name, kind)| entry(name, kind)))
                .collect()
        }
        Node::Balloon(_) => PROPERTIES
            .iter()
            .map(|property| entry(property.name, property.kind))
            .collect(),
    })
}

/// `qom-get`.
pub(super) fn get(target: &dyn Target, path: &str, name: &str) -> Result<Value, Failure> {
    match find(target, path)? {
        Node::Container { .. } if name == "type" => Ok(json!("container")),
        Node::Container {
            path,
            child: Some((child, _)),
        } if child == name => Ok(json!(format!("{}/{name}", path.trim_end_matches('/')))),
        Node::Container { .. } => Err(no_property("container", name)),
        Node::Balloon(balloon) => property(name).map(|property| (property.get)(balloon)),
    }
}

/// `qom-set`.
pub(super) fn set(target: &dyn Target, path: &str, name: &str, value: &Value) -> Result<(), Failure> {
    let Node::Balloon(balloon) = find(target, path)? else {
        return Err(
            get(target, path, name).map_or_else(|failure| failure, |_| read_only_property("container", name))
        );
    };
    match property(name)?.set {
        Some(set) => set(balloon, value),
        None => Err(read_only_property(BALLOON, name)),
    }
}

/// Whether `name` of `path` is something that the guest tells, and the guest was asked for it.
pub(super) fn ask_guest(target: &dyn Target, path: &str, name: &str) -> bool {
    match find(target, path) {
        Ok(Node::Balloon(balloon)) if name == GUEST_STATS => {
            balloon.request_stats();
            balloon.report().accepted.contains(&"guest-stats")
        }
        _ => false,
    }
}

fn property(name: &str) -> Result<&'static Property, Failure> {
    PROPERTIES
        .iter()
        .find(|property| property.name == name)
        .ok_or_else(|| no_property(BALLOON, name))
}

fn no_property(owner: &str, name: &str) -> Failure {
    Failure::generic(format!("Property '{owner}.{name}' not found"))
}

fn read_only_property(owner: &str, name: &str) -> Failure {
    Failure::generic(format!("Property '{owner}.{name}' is not writable"))
}

/// In QEMU's words; 0 stops.
fn set_interval(balloon: &BalloonHandle, value: &Value) -> Result<(), Failure> {
    let Some(seconds) = value.as_i64() else {
        return Err(Failure::generic(format!(
            "Invalid parameter type for '{INTERVAL}', expected: integer"
        )));
    };
    let Ok(seconds) = u64::try_from(seconds) else {
        return Err(Failure::generic("timer value must be greater than zero"));
    };
    if seconds > u64::from(u32::MAX) {
        return Err(Failure::generic("timer value is too big"));
    }
    if seconds == 0 && balloon.spec().deflate_on_distress {
        return Err(Failure::generic(
            "deflate-on-distress=on needs statistics: the interval cannot become 0",
        ));
    }
    balloon.set_stats_interval(Duration::from_secs(seconds));
    Ok(())
}

#[cfg(test)]
mod tests;
