use super::*;

fn module(directory: &Path, file: &str, depends: &str) {
    fs::write(
        directory.join(file),
        format!("\0license=GPL\0depends={depends}\0"),
    )
    .unwrap();
}

#[test]
fn a_module_follows_what_it_depends_on() {
    let directory = tempfile::tempdir().unwrap();
    let deep = directory.path().join("kernel/arch");
    fs::create_dir_all(&deep).unwrap();
    module(&deep, "kvm-amd.ko", "kvm,ccp");
    module(&deep, "kvm.ko", "irqbypass");
    module(directory.path(), "irqbypass.ko", "");
    let modules = Modules::new(directory.path()).unwrap();
    let order = modules.closure(&["kvm", "kvm_amd", "not_there"]).unwrap();
    let files: Vec<&str> = order.iter().map(|module| module.file.as_str()).collect();
    assert_eq!(files, ["irqbypass.ko", "kvm.ko", "kvm_amd.ko"]);
}
