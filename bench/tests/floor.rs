//! The floor as a program, on both drivers: what it answers, and to how much at once.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

const GET: &str = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
const LAST: &str = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

const DRIVERS: [&str; 3] = ["uring", "epoll", "tokio-uring"];

/// A floor that ends with the test, whatever becomes of that.
struct Floor {
    child: Child,
    address: String,
}

impl Floor {
    /// Starts one; `None` where its driver is forbidden, which is no fault of ours.
    fn start(driver: &str, arguments: &[&str]) -> Option<Self> {
        let mut child = Command::new(env!("CARGO_BIN_EXE_floor"))
            .args(["--port", "0", "--driver", driver])
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .expect("it was just built");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("it is a pipe");
        BufReader::new(stdout).read_line(&mut line).expect("it is text");
        let address = line.trim().strip_prefix("http://").map(str::to_owned);
        assert!(address.is_some() || driver != "epoll", "it says nothing");
        let started = address.map(|address| Self { child, address });
        if started.is_none() {
            eprintln!("left out: io_uring is forbidden here");
        }
        started
    }

    /// Sends bytes on a new connection and reads to its end.
    fn ask(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).expect("it listens");
        stream.write_all(request.as_bytes()).expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers and closes");
        answer
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn pipelined_requests_are_answered_in_order_and_the_last_one_closes() {
    for floor in DRIVERS.iter().filter_map(|driver| Floor::start(driver, &[])) {
        let answer = floor.ask(&format!("{}{LAST}", GET.repeat(15)));
        assert_eq!(answer.matches("HTTP/1.1 200 OK\r\n").count(), 16);
        assert_eq!(answer.matches("Connection: keep-alive\r\n").count(), 15);
        assert!(answer.ends_with(
            "Connection: close\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n\r\nHello, world!"
        ));
    }
}

#[test]
fn bodies_of_any_size_are_taken_and_given() {
    for floor in DRIVERS.iter().filter_map(|driver| Floor::start(driver, &["-b", "100000"])) {
        let body = "x".repeat(1 << 20);
        let head = "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1048576\r\n\r\n";
        let answer = floor.ask(&format!("{head}{body}{LAST}"));
        assert_eq!(answer.matches("Content-Length: 100000\r\n").count(), 2);
        assert!(answer.len() > 200_000);
    }
}
