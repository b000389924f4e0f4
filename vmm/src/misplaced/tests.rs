use std::time::{Duration, Instant};

use memory::backend::{BackendKind, BackendSpec, HostPolicy, NodeSet};
use memory::residency::NodeResidency;
use memory::size::PageSize;

use super::*;

fn ram() -> Ram {
    let mut spec = BackendSpec::new("ram", BackendKind::Ram, ByteSize::mib(2));
    spec.policy = HostPolicy::bind(NodeSet::from_iter([0]));
    Ram::open(vec![spec], &()).unwrap()
}

/// A sample in which so much lies on node 7.
fn sample(ram: &Ram, misplaced: ByteSize) -> Sample {
    let mut backends = ram.residency().unwrap();
    backends[0].misplaced = misplaced;
    backends[0].nodes = vec![NodeResidency {
        node: 7,
        page_size: PageSize::BASE,
        bytes: misplaced,
        transparent_huge: None,
    }];
    Sample {
        at: Instant::now(),
        cpu: Duration::ZERO,
        backends,
        objects: Default::default(),
        figures: Vec::new(),
    }
}

#[test]
fn is_told_once_until_it_is_gone() {
    let ram = ram();
    let mut watch = MisplacedWatch::default();
    let size = ByteSize::mib(1);
    assert!(watch.look(&ram, &sample(&ram, ByteSize::ZERO)).is_empty());
    let [told] = &watch.look(&ram, &sample(&ram, size))[..] else {
        panic!()
    };
    assert_eq!((told.misplaced, &told.nodes[..]), (size, &[(7, size)][..]));
    assert_eq!(
        told.to_string(),
        "backend 'ram' has policy bind 0, but 1 MiB lie where that does not want them: the host has 1 MiB on node 7"
    );
    assert!(
        watch.look(&ram, &sample(&ram, ByteSize::mib(2))).is_empty(),
        "told before"
    );
    assert!(watch.look(&ram, &sample(&ram, ByteSize::ZERO)).is_empty());
    assert_eq!(
        watch.look(&ram, &sample(&ram, size)).len(),
        1,
        "it was gone between"
    );
}
