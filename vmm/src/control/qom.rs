//! QEMU's object model, as far as its clients use it here: devices at `/machine/peripheral/ID`, memory backends and other
//! objects at `/objects/ID`.

mod backend;

use std::time::Duration;

use devices::virtio::balloon::BalloonHandle;
use memory::ram::OpenBackend;
use serde_json::{Value, json};

use super::balloon_report;
use super::inventory::{Item, Place};
use super::qmp::{Class, Failure};
use super::target::{Target, backends};

/// The property that is worth waiting for.
pub(super) const GUEST_STATS: &str = "guest-stats";

/// The type of the balloon.
const BALLOON: &str = "virtio-balloon-pci";

/// A property of a `T`.
struct Property<T> {
    name: &'static str,
    /// Its type, as `qom-list` shows it.
    kind: &'static str,
    get: fn(&T) -> Value,
    set: Option<Setter<T>>,
}

type Setter<T> = fn(&T, &Value) -> Result<(), Failure>;

const fn read_only<T>(name: &'static str, kind: &'static str, get: fn(&T) -> Value) -> Property<T> {
    Property {
        name,
        kind,
        get,
        set: None,
    }
}

impl<T> Property<T> {
    /// As `qom-list` shows it.
    fn entry(&self) -> Value {
        entry(self.name, self.kind)
    }
}

fn entry(name: &str, kind: &str) -> Value {
    json!({ "name": name, "type": kind })
}

const INTERVAL: &str = "guest-stats-polling-interval";

const PROPERTIES: &[Property<BalloonHandle>] = &[
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
        children: Vec<Child>,
    },
    Balloon(&'a BalloonHandle),
    Backend(&'a OpenBackend),
    Item(&'a Item),
}

/// Something in a container.
struct Child {
    name: String,
    /// `child<TYPE>`.
    kind: String,
}

impl Child {
    fn new(name: impl Into<String>, kind: &str) -> Child {
        Child {
            name: name.into(),
            kind: format!("child<{kind}>"),
        }
    }
}

/// Finds `path`: from the root, or, without a slash in front, the end of one.
fn find<'a>(target: &'a dyn Target, path: &str) -> Result<Node<'a>, Failure> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let absolute = path.starts_with('/');
    let leads =
        |full: &[&str]| *full == parts[..] || (!absolute && !parts.is_empty() && full.ends_with(&parts));
    if let Some(balloon) = target.balloon()
        && leads(&["machine", "peripheral", balloon.id()])
    {
        return Ok(Node::Balloon(balloon));
    }
    if let Some(backend) = backends(target).find(|backend| leads(&["objects", &backend.spec().id])) {
        return Ok(Node::Backend(backend));
    }
    let item = |item: &&Item| {
        let full: Vec<&str> = item
            .place
            .path()
            .iter()
            .copied()
            .chain([item.id.as_str()])
            .collect();
        leads(&full)
    };
    if let Some(item) = target.items().iter().find(item) {
        return Ok(Node::Item(item));
    }
    let items = |place| {
        let there = target.items().iter().filter(move |item| item.place == place);
        there.map(|item| Child::new(item.id.as_str(), item.kind))
    };
    let (path, children) = match parts[..] {
        [] if absolute => (
            "/",
            vec![
                Child::new("machine", "container"),
                Child::new("objects", "container"),
            ],
        ),
        ["machine"] => ("/machine", vec![Child::new("peripheral", "container")]),
        ["machine", "peripheral"] => {
            let balloon = target.balloon().map(|balloon| Child::new(balloon.id(), BALLOON));
            let others = items(Place::Peripheral);
            ("/machine/peripheral", balloon.into_iter().chain(others).collect())
        }
        ["objects"] => {
            let child = |backend: &OpenBackend| {
                let spec = backend.spec();
                Child::new(spec.id.as_str(), backend::type_name(&spec))
            };
            (
                "/objects",
                backends(target).map(child).chain(items(Place::Objects)).collect(),
            )
        }
        _ => {
            return Err(Failure {
                class: Class::DeviceNotFound,
                desc: format!("Device '{path}' not found").into(),
            });
        }
    };
    Ok(Node::Container { path, children })
}

/// `qom-list`: the names and types of what is at `path`.
pub(super) fn list(target: &dyn Target, path: &str) -> Result<Value, Failure> {
    Ok(match find(target, path)? {
        Node::Container { children, .. } => {
            let kind = std::iter::once(entry("type", "string"));
            kind.chain(children.iter().map(|child| entry(&child.name, &child.kind)))
                .collect()
        }
        Node::Balloon(_) => PROPERTIES.iter().map(Property::entry).collect(),
        Node::Backend(backend) => backend::properties(backend).map(Property::entry).collect(),
        Node::Item(item) => std::iter::once(entry("type", "string"))
            .chain(item.properties.iter().map(|(name, kind, _)| entry(name, kind)))
            .collect(),
    })
}

/// `qom-get`.
pub(super) fn get(target: &dyn Target, path: &str, name: &str) -> Result<Value, Failure> {
    match find(target, path)? {
        Node::Container { .. } if name == "type" => Ok(json!("container")),
        Node::Container { path, children } if children.iter().any(|child| child.name == name) => {
            Ok(json!(format!("{}/{name}", path.trim_end_matches('/'))))
        }
        Node::Container { .. } => Err(no_property("container", name)),
        Node::Balloon(balloon) => property(name).map(|property| (property.get)(balloon)),
        Node::Backend(backend) => backend::get(backend, name),
        Node::Item(item) if name == "type" => Ok(json!(item.kind)),
        Node::Item(item) => {
            let found = item.properties.iter().find(|(known, ..)| *known == name);
            let (_, _, value) = found.ok_or_else(|| no_property(item.kind, name))?;
            Ok(value.clone())
        }
    }
}

/// `qom-set`.
pub(super) fn set(target: &dyn Target, path: &str, name: &str, value: &Value) -> Result<(), Failure> {
    match find(target, path)? {
        Node::Container { .. } => {
            Err(get(target, path, name)
                .map_or_else(|failure| failure, |_| read_only_property("container", name)))
        }
        Node::Balloon(balloon) => match property(name)?.set {
            Some(set) => set(balloon, value),
            None => Err(read_only_property(BALLOON, name)),
        },
        Node::Backend(backend) => backend::set(backend, name, value),
        Node::Item(item) => {
            Err(get(target, path, name)
                .map_or_else(|failure| failure, |_| read_only_property(item.kind, name)))
        }
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

fn property(name: &str) -> Result<&'static Property<BalloonHandle>, Failure> {
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
