use super::*;
use crate::cli::rng::Entropy;

#[test]
fn reads_sources_of_random_bytes() {
    let source = |text| match object(text).unwrap() {
        Object::Rng(source) => source,
        Object::Memory(backend) => panic!("{backend:?}"),
    };
    let file = source("rng-random,id=r,filename=/dev/hwrng");
    assert_eq!(
        (file.id.as_str(), file.entropy),
        ("r", Entropy::File("/dev/hwrng".into()))
    );
    assert_eq!(
        source("rng-random,id=r").entropy,
        Entropy::File("/dev/urandom".into())
    );
    assert_eq!(source("rng-builtin,id=r").entropy, Entropy::Builtin);
    let text = |text| object(text).unwrap_err().to_string();
    assert_eq!(text("rng-builtin"), "rng-builtin needs 'id=…'");
    assert_eq!(
        text("rng-builtin,id=r,filename=/x"),
        "rng-builtin has no property 'filename'; it has: id"
    );
    assert!(text("rng-random,id=r,filename=").contains("expected a file"));
    assert!(text("rng-randm,id=r").contains("did you mean 'rng-random'"));
}
