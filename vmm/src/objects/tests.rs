use std::sync::{Arc, mpsc};
use std::time::Duration;

use memory::backend::{BackendKind, BackendSpec};
use memory::ram::{Population, PreallocState};
use memory::size::ByteSize;

use super::*;

fn ram() -> Ram {
    let spec = BackendSpec::new("ram", BackendKind::Ram, ByteSize::mib(2));
    Ram::open(vec![spec], &()).unwrap()
}

#[test]
fn a_preallocation_goes_on_after_the_answer_and_is_told() {
    let (sender, reports) = mpsc::channel();
    let listener: PreallocListener = Arc::new(move |report| sender.send(report).unwrap());
    let mut objects = Objects::new(BackendDefaults::default(), listener);
    let mut object = ObjectArg::new("extra", BackendKind::memfd(None), ByteSize::mib(16));
    object.prealloc = Some(Prealloc::On);
    objects.add(object, &ram()).unwrap();
    let report = reports.recv_timeout(Duration::from_secs(60)).unwrap();
    assert_eq!((report.id.as_str(), report.state), ("extra", PreallocState::Done));
    assert_eq!(objects.backends()[0].resident().unwrap(), ByteSize::mib(16));
    objects.remove("extra", &ram()).unwrap();
    assert!(objects.backends().is_empty());
}

#[test]
fn what_is_filled_may_be_reserved_by_that() {
    let (sender, reports) = mpsc::channel();
    let listener: PreallocListener = Arc::new(move |report| sender.send(report).unwrap());
    let mut objects = Objects::new(BackendDefaults::default(), listener);
    let mut object = ObjectArg::new("extra", BackendKind::memfd(None), ByteSize::mib(4));
    (object.reserve, object.prealloc) = (Some(true), Some(Prealloc::On));
    objects.add(object.clone(), &ram()).unwrap();
    let report = reports.recv_timeout(Duration::from_secs(60)).unwrap();
    assert_eq!(report.state, PreallocState::Done);
    let backend = &objects.backends()[0];
    assert!(backend.effective().reserve && backend.effective().prealloc);
    // As with -object, of memory that is filled later nobody can say so.
    (object.id, object.prealloc) = ("later".to_owned(), Some(Prealloc::Background));
    let refused = objects.add(object, &ram()).unwrap_err().to_string();
    assert!(refused.contains("reserve=on, but the host does not"), "{refused}");
}

#[test]
fn a_file_stays_when_the_start_is_over() {
    let directory = tempfile::tempdir_in("/dev/shm").unwrap();
    let file = |name: &str| BackendKind::file(directory.path().join(name));
    let open_named = |name| {
        let mut spec = BackendSpec::new(name, file(name), ByteSize::mib(2));
        spec.share = Some(true);
        Objects::open(&[spec], BackendDefaults::default(), Arc::new(|_| ())).unwrap()
    };
    drop(open_named("first"));
    assert!(!directory.path().join("first").exists());
    let mut objects = open_named("first");
    objects.started();
    let mut object = ObjectArg::new("second", file("second"), ByteSize::mib(2));
    object.share = Some(true);
    objects.add(object, &ram()).unwrap();
    drop(objects);
    let mut objects = open_named("third");
    objects.remove("third", &ram()).unwrap();
    drop(objects);
    for name in ["first", "second", "third"] {
        assert!(directory.path().join(name).exists(), "{name}");
    }
}

#[test]
fn those_of_the_command_line_are_filled_with_the_start() {
    let mut spec = BackendSpec::new("first", BackendKind::memfd(None), ByteSize::mib(4));
    (spec.prealloc, spec.guest_node) = (Prealloc::On, 3);
    let listener: PreallocListener = Arc::new(|_| ());
    let mut objects =
        Objects::open(&[spec.clone()], BackendDefaults::default(), Arc::clone(&listener)).unwrap();
    assert_eq!(objects.backends()[0].resident().unwrap(), ByteSize::ZERO);
    let population = Population::new(objects.backends(), None);
    population.run(&()).unwrap();
    assert_eq!(objects.backends()[0].resident().unwrap(), ByteSize::mib(4));
    objects.remove("first", &ram()).unwrap();
    spec.kind = BackendKind::file("/nonexistent/directory/");
    assert!(matches!(
        Objects::open(&[spec], BackendDefaults::default(), listener),
        Err(Error::Memory(_))
    ));
}
