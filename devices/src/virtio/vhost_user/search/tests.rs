use std::io;

use super::*;

#[test]
fn a_daemon_of_no_use_is_told_once() {
    let mut search = Search::new(Some(Duration::from_secs(1)));
    let absent = VhostUserError::Connect(io::ErrorKind::ConnectionRefused.into());
    let useless = VhostUserError::OffersLess { features: 1 };
    let told = [&absent, &useless, &useless, &absent, &useless].map(|error| search.is_news(error));
    assert_eq!(told, [false, true, false, false, false]);
    search.is_over();
    assert!(search.is_news(&useless));
}

#[test]
fn without_a_pause_nobody_looks() {
    let mut search = Search::new(None);
    assert!(!search.again());
    assert_eq!(search.due(), None);
    let mut search = Search::new(Some(Duration::from_secs(5)));
    assert!(search.again());
    assert!(search.due() > Some(Instant::now()));
    search.is_over();
    assert_eq!(search.due(), None);
}
