use super::*;

#[test]
fn unsafe_code_is_seen_and_words_about_it_are_not() {
    let word = "unsafe";
    for line in [
        format!("let x = {word} {{ y }};"),
        format!("pub {word} fn f() {{"),
        format!("{word} impl Send for X {{}}"),
    ] {
        assert!(is_unsafe(&line), "{line}");
    }
    for line in [
        "// SAFETY: unsafe { here }",
        "#![forbid(unsafe_code)]",
        "undocumented_unsafe_blocks = 1",
        "an unsafe thing",
    ] {
        assert!(!is_unsafe(line), "{line}");
    }
}

#[test]
fn rooms_include_what_belongs_to_them() {
    for path in [
        "vmm/src/kvm/vcpu.rs",
        "vmm/src/kvm.rs",
        "memory/src/sys.rs",
        "memory/src/mapping/tests.rs",
    ] {
        let path = Path::new(path);
        assert!(
            ROOMS.iter().any(|room| path.starts_with(room)) || inside_room(path),
            "{}",
            path.display()
        );
    }
    assert!(!inside_room(Path::new("memory/src/ram.rs")));
}
