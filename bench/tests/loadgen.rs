//! The load generator as a program, against the smallest server that can answer it.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Output};
use std::thread;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

/// Answers every request head on every connection until the test process ends.
fn server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port exists");
    let address = listener.local_addr().expect("a bound socket has an address");
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || answer(stream));
        }
    });
    address
}

fn answer(mut stream: TcpStream) {
    let Ok(reading) = stream.try_clone() else { return };
    for line in BufReader::new(reading).lines() {
        if line.is_err() || (line.is_ok_and(|line| line.is_empty()) && stream.write_all(ANSWER).is_err()) {
            return;
        }
    }
}

/// Runs the program; returns its status, and what it has written.
fn loadgen(arguments: &[&str]) -> (i32, String, String) {
    let program = env!("CARGO_BIN_EXE_loadgen");
    let Output { status, stdout, stderr } =
        Command::new(program).args(arguments).output().expect("it was just built");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (status.code().unwrap_or(-1), text(stdout), text(stderr))
}

#[test]
fn it_ends_after_the_asked_number_of_requests() {
    let url = format!("http://{}/", server());
    let (status, stdout, stderr) = loadgen(&[&url, "-c", "4", "-n", "100", "-d", "60"]);
    assert_eq!(status, 0, "{stderr}");
    for part in
        ["\"requests\": 100,", "\"statuses\": {\"200\": 100}", "\"errors_total\": 0", "\"reconnects\": 0"]
    {
        assert!(stdout.contains(part), "{part} is not in {stdout}");
    }
}

#[test]
fn it_ends_after_the_asked_time_and_counts_failures() {
    let unused = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let url = format!("http://{}/", unused.expect("a free port exists"));
    let (status, stdout, stderr) = loadgen(&[&url, "-c", "1", "-d", "0.3", "--quiet"]);
    assert_eq!(status, 1, "{stderr}");
    assert!(stdout.contains("\"errors\": {\"connect\": "), "{stdout}");
    assert!(stderr.contains("connect: Connection refused"), "{stderr}");
}

#[test]
fn pipelined_requests_are_all_answered() {
    let url = format!("http://{}/", server());
    let (status, stdout, stderr) =
        loadgen(&[&url, "-c", "3", "-n", "100", "-d", "60", "--pipeline", "16", "-q"]);
    assert_eq!(status, 0, "{stderr}");
    assert!(stdout.contains("\"pipeline\": 16, \"reconnects\": 0,"), "{stdout}");
    assert!(stdout.contains("\"requests\": 100,"), "{stdout}");
}

#[test]
fn an_open_loop_asks_at_its_rate_beside_a_crowd_that_is_idle() {
    let url = format!("http://{}/", server());
    let (status, stdout, stderr) =
        loadgen(&[&url, "-c", "2", "--idle", "50", "--rate", "500", "-d", "0.5", "--announce"]);
    assert_eq!(status, 0, "{stderr}");
    assert!(stdout.starts_with("started\n{"), "{stdout}");
    for part in
        ["\"connections_open_max\": 52, \"idle\": 50, \"idle_lost\": 0", "\"rate\": 500, \"due\": 250,"]
    {
        assert!(stdout.contains(part), "{part} is not in {stdout}");
    }
}

#[test]
fn a_limit_of_open_files_is_named() {
    let (status, stdout, stderr) = loadgen(&["http://127.0.0.1:1/", "-c", "100000", "--idle", "100000"]);
    if stderr.contains("open files") {
        assert_eq!((status, stdout.as_str()), (2, ""));
        assert!(stderr.contains("200000 connections need 200032 open files"), "{stderr}");
        assert!(stderr.contains("-c 0 --idle N --source M"), "{stderr}");
    }
}

#[test]
fn it_loads_this_machine_only() {
    let (status, stdout, stderr) = loadgen(&["http://192.0.2.1:80/"]);
    assert_eq!((status, stdout.as_str()), (2, ""));
    assert!(stderr.contains("not a loopback address"), "{stderr}");
}
