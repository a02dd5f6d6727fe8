//! The backend as a program: it echoes on many connections, and ends with its standard input.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};

#[test]
fn it_echoes_and_ends_with_its_input() {
    let mut backend = Command::new(env!("CARGO_BIN_EXE_backend"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it was just built");
    let mut line = String::new();
    BufReader::new(backend.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let port: u16 = line.trim().parse().unwrap();
    let mut streams: Vec<_> = (0..10).map(|_| TcpStream::connect(("127.0.0.1", port)).unwrap()).collect();
    for round in 0..3 {
        for (index, stream) in streams.iter_mut().enumerate() {
            stream.write_all(format!("question {round} of {index}").as_bytes()).unwrap();
        }
        for (index, stream) in streams.iter_mut().enumerate() {
            let expected = format!("question {round} of {index}");
            let mut answer = vec![0; expected.len()];
            stream.read_exact(&mut answer).unwrap();
            assert_eq!(answer, expected.as_bytes());
        }
    }
    drop(streams);
    drop(backend.stdin.take());
    assert!(backend.wait().unwrap().success());
}
