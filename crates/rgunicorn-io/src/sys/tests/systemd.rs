//! Values of the environment in tables, and datagrams that arrive.

use super::*;

#[test]
fn sockets_are_for_the_process_that_is_named() {
    assert_eq!(listen_fds(Some("7"), Some("3"), 7), Ok(vec![3, 4, 5]));
    assert_eq!(listen_fds(Some("7"), Some("0"), 7), Ok(vec![]));
    assert_eq!(listen_fds(Some("7"), None, 7), Ok(vec![]));
    for pid in [None, Some(""), Some("8"), Some("x")] {
        assert_eq!(listen_fds(pid, Some("1"), 7), Ok(vec![]), "{pid:?}");
        assert_eq!(listen_fds(pid, Some("x"), 7), Ok(vec![]), "{pid:?}");
    }
    for count in ["", "x", "-1", "2147483647", "99999999999"] {
        assert!(listen_fds(Some("7"), Some(count), 7).is_err(), "{count}");
    }
}

#[test]
fn signs_of_life_are_wanted_from_the_process_that_is_named() {
    let minute = Some(Duration::from_secs(60));
    assert_eq!(watchdog(Some("60000000"), Some("7"), &[7]), minute);
    assert_eq!(watchdog(Some("60000000"), Some("5"), &[7, 5]), minute);
    assert_eq!(watchdog(Some("60000000"), None, &[7]), minute);
    assert_eq!(watchdog(Some("60000000"), Some("8"), &[7]), None);
    for usec in [None, Some("0"), Some(""), Some("-1"), Some("x")] {
        assert_eq!(watchdog(usec, None, &[7]), None, "{usec:?}");
    }
}

#[test]
fn notices_arrive() {
    let name = format!("rgunicorn-notify-{}", std::process::id());
    let path = std::env::temp_dir().join(&name);
    let by_path = UnixDatagram::bind(&path).unwrap();
    let abstractly = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    for (address, socket) in [(path.to_str().unwrap(), by_path), (&format!("@{name}"), abstractly)] {
        Notifier::at(address.as_ref()).unwrap().send("READY=1\n").unwrap();
        let mut bytes = [0; 100];
        let length = socket.recv(&mut bytes).unwrap();
        assert_eq!(&bytes[..length], b"READY=1\n");
    }
    std::fs::remove_file(&path).unwrap();
    let gone = Notifier::at(path.as_ref()).unwrap().send("READY=1");
    assert_eq!(gone.unwrap_err().kind(), io::ErrorKind::NotFound);
}

#[test]
fn addresses_that_are_none() {
    for address in ["", "relative", "vsock:2:1234", &"/x".repeat(100)] {
        assert_eq!(
            Notifier::at(address.as_ref()).unwrap_err().kind(),
            io::ErrorKind::InvalidInput,
            "{address}"
        );
    }
}
