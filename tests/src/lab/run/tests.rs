use super::*;

#[test]
fn files_are_found_in_arguments() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    let arguments = [
        "-kernel",
        path,
        "-serial",
        "file:/no/such",
        "-x",
        &format!("a=b,path={path}"),
        "/proc/cpuinfo",
        "/bin/sh",
    ];
    let arguments = arguments.map(str::to_owned);
    assert_eq!(named_files(&arguments), [file.path(), file.path()]);
}
