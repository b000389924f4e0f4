use std::os::unix::net::UnixDatagram;

use super::*;

#[test]
fn listens_and_cleans_up() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let listener = Listener::bind(&path).unwrap();
    assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    let _client = UnixStream::connect(&path).unwrap();
    listener.accept().unwrap();
    assert_eq!(listener.path(), path);
    drop(listener);
    assert!(!path.exists());
}

#[test]
fn replaces_the_dead_and_leaves_the_living() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    // A socket whose owner is gone without removing it.
    drop(UnixListener::bind(&path).unwrap());
    let living = Listener::bind(&path).unwrap();
    assert!(matches!(Listener::bind(&path), Err(SocketError::Answered { .. })));
    UnixStream::connect(&path).unwrap();
    drop(living);

    let datagram = UnixDatagram::bind(&path).unwrap();
    assert!(matches!(Listener::bind(&path), Err(SocketError::Answered { .. })));
    drop(datagram);
    Listener::bind(&path).unwrap();
}

#[test]
fn a_server_with_a_full_queue_is_alive() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let server = socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .unwrap();
    rustix::net::bind(&server, &SocketAddrUnix::new(&path).unwrap()).unwrap();
    rustix::net::listen(&server, 0).unwrap();
    let _waiting = UnixStream::connect(&path).unwrap();
    assert!(matches!(Listener::bind(&path), Err(SocketError::Answered { .. })));
}

#[test]
fn refuses_what_is_no_socket() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    fs::write(&path, "precious").unwrap();
    assert!(matches!(
        Listener::bind(&path),
        Err(SocketError::NotASocket { .. })
    ));
    assert_eq!(fs::read(&path).unwrap(), b"precious");
    assert!(matches!(
        Listener::bind(dir.path()),
        Err(SocketError::NotASocket { .. })
    ));
    let nowhere = dir.path().join("no/s");
    assert!(matches!(
        Listener::bind(&nowhere),
        Err(SocketError::Listen { .. })
    ));
}

#[test]
fn says_how_long_a_path_may_be() {
    let path = PathBuf::from(format!("/{}", "x".repeat(MAX_PATH)));
    let error = Listener::bind(&path).unwrap_err().to_string();
    assert!(
        error.contains("has 108 bytes, the kernel takes at most 107"),
        "{error}"
    );
    let dir = tempfile::tempdir().unwrap();
    let room = MAX_PATH - dir.path().as_os_str().len() - 1;
    Listener::bind(&dir.path().join("x".repeat(room))).unwrap();
}

#[test]
fn removes_only_its_own_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let listener = Listener::bind(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let other = Listener::bind(&path).unwrap();
    drop(listener);
    assert!(path.exists());
    drop(other);
}
