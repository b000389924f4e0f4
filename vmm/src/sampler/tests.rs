use memory::backend::{BackendKind, BackendSpec};
use memory::size::ByteSize;

use super::*;
use crate::news::{self, NewsReceiver};

fn sampler() -> (Sampler, NewsReceiver) {
    let spec = BackendSpec::new("ram", BackendKind::Ram, ByteSize::mib(16));
    let (sender, receiver) = news::channel().unwrap();
    let ram = Ram::open(vec![spec], &()).unwrap();
    (Sampler::new(ram, None, sender), receiver)
}

/// The next news, which is a sample.
fn sampled(news: &NewsReceiver) -> Sampled {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        match news.drain().pop() {
            Some(News::Sampled(sampled)) => return sampled,
            None if Instant::now() < end => thread::sleep(Duration::from_millis(1)),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn one_sample_serves_all_who_ask_within_a_second() {
    let (mut sampler, news) = sampler();
    assert!(sampler.last().unwrap_err().contains("ask again"));
    assert!(!sampler.is_ready(&[]));
    assert!(!sampler.is_ready(&[]), "one is in flight");
    sampler.hear(sampled(&news));
    let first = sampler.last().unwrap();
    assert_eq!(first.backends[0].resident, ByteSize::ZERO);
    assert!(first.age() > MAX_AGE || sampler.is_ready(&[]));
    assert!(news.drain().is_empty(), "asked twice, read once");

    let mut old = Sample::clone(&first);
    old.at = Instant::now().checked_sub(2 * MAX_AGE).unwrap();
    sampler.hear(Ok(Arc::new(old)));
    assert!(!sampler.is_ready(&[]), "too old");
    sampler.hear(sampled(&news));
    assert!(sampler.last().unwrap().at > first.at);
}

#[test]
fn a_failure_is_told_and_does_not_last() {
    let (mut sampler, news) = sampler();
    sampler.hear(Err("broken".to_owned()));
    assert_eq!(sampler.last().unwrap_err(), "broken");
    assert!(!sampler.is_ready(&[]));
    sampler.hear(sampled(&news));
    assert!(sampler.last().is_ok());
}

#[test]
fn the_end_waits_for_the_reader() {
    let (mut sampler, news) = sampler();
    assert!(!sampler.is_ready(&[]));
    drop(sampler);
    assert!(matches!(news.drain()[..], [News::Sampled(Ok(_))]));
}
