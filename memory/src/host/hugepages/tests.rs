use std::fs;

use super::*;

/// A /sys with a pool: (total, free) on two nodes, and what is reserved.
fn host(nodes: [(u64, u64); 2], reserved: u64, overcommit: u64) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let write = |directory: PathBuf, files: &[(&str, u64)]| {
        fs::create_dir_all(&directory).unwrap();
        for (name, number) in files {
            fs::write(directory.join(name), format!("{number}\n")).unwrap();
        }
    };
    let page = PageSize::HUGE_2M;
    write(
        root.path().join("kernel/mm/hugepages").join(directory(page)),
        &[
            ("nr_hugepages", nodes[0].0 + nodes[1].0),
            ("free_hugepages", nodes[0].1 + nodes[1].1),
            ("resv_hugepages", reserved),
            ("surplus_hugepages", 0),
            ("nr_overcommit_hugepages", overcommit),
        ],
    );
    for (node, (total, free)) in (0..).zip(nodes) {
        let files = [("nr_hugepages", total), ("free_hugepages", free)];
        write(node_directory(root.path(), node, page), &files);
    }
    root
}

fn pool(root: &tempfile::TempDir, nodes: Option<&str>) -> Pool {
    let nodes = nodes.map(|text| NodeSet::parse(text).unwrap());
    Pool::read_in(root.path(), PageSize::HUGE_2M, nodes.as_ref()).unwrap()
}

#[test]
fn what_is_reserved_is_not_free() {
    let root = host([(0, 0), (16, 16)], 4, 0);
    assert_eq!(
        pool(&root, None).to_string(),
        "12 free (16 in the pool, 4 reserved)"
    );
    assert_eq!(
        pool(&root, Some("1")).to_string(),
        "12 free (16 in the pool, 4 reserved)"
    );
    assert_eq!(
        pool(&root, Some("0")).to_string(),
        "0 free (0 in the pool, 0 reserved)"
    );
}

#[test]
fn a_node_counts_only_reservations_that_the_others_cannot_serve() {
    let root = host([(10, 10), (16, 16)], 12, 3);
    let on_one = pool(&root, Some("1"));
    assert_eq!((on_one.free, on_one.reserved, on_one.growth), (14, 2, 3));
    assert_eq!(pool(&root, Some("0-1")).free, 14);
}

#[test]
fn what_is_in_use_is_said() {
    let root = host([(16, 6), (0, 0)], 0, 0);
    assert_eq!(
        pool(&root, None).to_string(),
        "6 free (16 in the pool, 0 reserved, 10 in use)"
    );
}

#[test]
fn a_size_that_the_kernel_does_not_have_is_an_error() {
    let root = host([(1, 1), (0, 0)], 0, 0);
    assert!(Pool::read_in(root.path(), PageSize::HUGE_1G, None).is_err());
}
