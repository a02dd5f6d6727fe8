//! Real sockets: parts of files by sendfile, and sockets that the application takes over.

use std::cell::RefCell;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsRawFd;

use rgunicorn_io::driver::sim::SimConfig;
use rgunicorn_io::driver::{Choice, Config, Driver};
use rgunicorn_server::worker::WorkerConfig;

use crate::app::{answer, pattern};
use crate::client::get;
use crate::stage::{Stage, worker_config};

/// A worker on a real driver, with the listener that it serves. None where the kernel has no such driver.
fn stage(choice: Choice) -> Option<(Stage, TcpListener)> {
    let (driver, _) = Driver::open(&Config { choice, ..Config::default() }).ok()?;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let (_, net) = Driver::sim(0, &SimConfig::default());
    let worker_config = WorkerConfig { stream_bodies: true, ..worker_config() };
    Some((Stage::on(driver, net, listener.as_raw_fd(), 0, worker_config), listener))
}

struct Tcp {
    socket: TcpStream,
    got: RefCell<Vec<u8>>,
}

impl Tcp {
    fn connect(listener: &TcpListener) -> Self {
        let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        socket.set_nonblocking(true).unwrap();
        Self { socket, got: RefCell::default() }
    }

    fn send(&self, bytes: impl AsRef<[u8]>) {
        (&self.socket).write_all(bytes.as_ref()).unwrap();
    }

    /// Reads a piece. True at the end of the stream.
    fn read(&self) -> bool {
        let mut chunk = vec![0; 50_000];
        match (&self.socket).read(&mut chunk) {
            Ok(0) => true,
            Ok(count) => {
                self.got.borrow_mut().extend_from_slice(&chunk[..count]);
                false
            }
            Err(error) => error.kind() != ErrorKind::WouldBlock,
        }
    }

    fn has(&self, bytes: &[u8]) -> bool {
        self.read();
        *self.got.borrow() == bytes
    }
}

fn each_driver(test: impl Fn(&Stage, &TcpListener)) {
    for choice in [Choice::Epoll, Choice::Uring] {
        if let Some((stage, listener)) = stage(choice) {
            test(&stage, &listener);
        }
    }
}

#[test]
fn parts_of_a_file_leave_in_order_between_other_pieces() {
    each_driver(|stage, listener| {
        let client = Tcp::connect(listener);
        client.send([get("/file/6000000/6000000"), get("/next")].concat());
        stage.until("the call", || stage.app.count("call") >= 1);
        let content = [b"<", &pattern(6_000_000)[1..], b">"].concat();
        let expected = [answer(&content, true), answer(b"/next|", true)].concat();
        stage.until("file and next answer", || {
            client.read();
            client.got.borrow().len() >= expected.len()
        });
        assert!(client.has(&expected));
        drop(client);
        stage.until("the end", || stage.snapshot().connections == 0);
    });
}

#[test]
fn a_file_that_became_shorter_ends_the_connection() {
    each_driver(|stage, listener| {
        let client = Tcp::connect(listener);
        client.send(get("/file/2000/1000"));
        stage.until("the end", || client.read());
        assert!(client.got.borrow().len() < 1200);
        assert!(stage.errors().contains("the file became shorter"));
        assert_eq!(stage.snapshot().connections, 0);
    });
}

#[test]
fn a_reader_that_leaves_within_a_file_ends_the_connection() {
    each_driver(|stage, listener| {
        let client = Tcp::connect(listener);
        client.send(get("/file/60000000/60000000"));
        stage.until("the beginning", || {
            client.read();
            !client.got.borrow().is_empty()
        });
        drop(client);
        stage.until("the end", || stage.snapshot().connections == 0);
        stage.until("nothing is left", || stage.snapshot().operations <= 1 && stage.snapshot().timers == 0);
    });
}

#[test]
fn a_socket_that_the_application_took_works_on_after_the_response() {
    each_driver(|stage, listener| {
        let client = Tcp::connect(listener);
        client.send([get("/take"), b"early".to_vec()].concat());
        stage.until("the answer", || client.has(&answer(b"true", true)));
        stage.until("the reactor lets go", || stage.snapshot().connections == 0);
        let taken = stage.app.taken.take().unwrap();
        assert_eq!(taken.unread, b"early");
        let ours = TcpStream::from(taken.fd);
        (&ours).write_all(b"hello").unwrap();
        let expected = [answer(b"true", true), b"hello".to_vec()].concat();
        while !client.has(&expected) {
            assert!(client.got.borrow().len() < expected.len(), "something else was sent");
            assert!(!client.read(), "the stream was ended under the application");
        }
        ours.shutdown(Shutdown::Both).unwrap();
    });
}

#[test]
fn what_had_come_of_a_body_goes_with_its_socket() {
    each_driver(|stage, listener| {
        let client = Tcp::connect(listener);
        client.send(b"POST /take HTTP/1.1\r\nHost: a\r\nContent-Length: 50\r\n\r\nearly");
        stage.until("the answer", || client.has(&answer(b"true", true)));
        stage.until("the reactor lets go", || stage.snapshot().connections == 0);
        assert_eq!(stage.app.taken.take().unwrap().unread, b"early");
    });
}
