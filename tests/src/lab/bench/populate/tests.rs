use super::*;

#[test]
fn every_page_is_there() {
    let size = 5 << 20;
    for threads in [1, 2, 7] {
        let memory = populate(Page::Base, size, threads).unwrap();
        assert_eq!(memory.len(), size);
        // The pages are there without a fault: each was written to.
        assert!(memory.iter().all(|byte| *byte == 0));
    }
}

#[test]
fn pages_have_names() {
    for page in PAGES {
        assert_eq!(Page::parse(page.name()), Some(page));
    }
    assert_eq!(Page::parse("1g"), None);
}

#[test]
fn nonsense_is_refused() {
    for words in [&["4k"][..], &["1g", "1", "1"], &["4k", "x", "1"]] {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        assert_eq!(run(&words).unwrap_err().code(), 2, "{words:?}");
    }
}
