//! Do access records reach the file whole, in few writes, and never stop the server?

use std::io::Read;
use std::os::fd::AsRawFd;

use super::{Folder, Request, read};
use crate::log::{AccessFormat, AccessLog, BUFFER_BYTES_MAX};
use rgunicorn_io::sys::logfile::set_nonblocking;

fn format(text: &str) -> AccessFormat {
    AccessFormat::compile(text).unwrap()
}

fn request(status: u16) -> Request {
    Request { status, ..Request::default() }
}

#[test]
fn records_wait_for_the_flush() {
    let folder = Folder::new();
    let path = folder.file("access.log");
    let mut log = AccessLog::open(&path, format("%(m)s %(s)s")).unwrap();
    log.push(&request(200));
    log.push(&request(404));
    assert_eq!((read(&path).as_str(), log.pending_bytes()), ("", 16));
    log.flush();
    log.flush();
    assert_eq!((read(&path).as_str(), log.pending_bytes(), log.dropped()), ("GET 200\nGET 404\n", 0, 0));
}

#[test]
fn the_end_flushes() {
    let folder = Folder::new();
    let path = folder.file("access.log");
    AccessLog::open(&path, format("%(s)s")).unwrap().push(&request(200));
    assert_eq!(read(&path), "200\n");
}

#[test]
fn a_full_buffer_flushes_itself() {
    let folder = Folder::new();
    let path = folder.file("access.log");
    let mut log = AccessLog::with_buffer(&path, format("%(s)s"), 10).unwrap();
    for status in [200, 201, 202] {
        log.push(&request(status));
    }
    assert_eq!((read(&path).as_str(), log.pending_bytes()), ("200\n201\n202\n", 0));
}

#[test]
fn a_reopen_writes_what_waits_to_the_old_file() {
    let folder = Folder::new();
    let (path, old) = (folder.file("access.log"), folder.file("access.log.1"));
    let mut log = AccessLog::open(&path, format("%(s)s")).unwrap();
    let fd = log.as_raw_fd();
    log.push(&request(200));
    std::fs::rename(&path, &old).unwrap();
    log.reopen().unwrap();
    log.push(&request(201));
    log.flush();
    assert_eq!((read(&old).as_str(), read(&path).as_str(), log.as_raw_fd()), ("200\n", "201\n", fd));
}

#[test]
fn a_full_disk_drops_and_counts() {
    let mut log = AccessLog::open("/dev/full", format("%(s)s")).unwrap();
    for _ in 0..3 {
        log.push(&request(200));
    }
    log.flush();
    assert_eq!((log.pending_bytes(), log.dropped()), (0, 3));
    log.push(&request(200));
    log.flush();
    assert_eq!((log.pending_bytes(), log.dropped()), (0, 4));
}

/// A pipe whose writing end the log opens by path, non-blocking as another process may have made it.
fn pipe_log(buffer_bytes_max: usize) -> (AccessLog, std::io::PipeReader) {
    let (reader, writer) = std::io::pipe().unwrap();
    let path = format!("/dev/fd/{}", writer.as_raw_fd());
    let log = AccessLog::with_buffer(&path, format("%(U)s"), buffer_bytes_max).unwrap();
    set_nonblocking(log.as_raw_fd());
    (log, reader)
}

#[test]
fn a_slow_reader_of_a_pipe_gets_whole_lines_in_order_and_memory_stays_bounded() {
    let (mut log, mut reader) = pipe_log(10_000);
    let mut pushed = 0u64;
    // 64 KiB of pipe and 10,000 bytes of buffer fill up; the rest is dropped.
    while log.dropped() < 100 {
        let path = format!("/{pushed:08}{}", "x".repeat(100)).into_bytes();
        log.push(&Request { path, ..Request::default() });
        assert!(log.pending_bytes() <= 10_000);
        pushed += 1;
    }
    let kept = usize::try_from(pushed - log.dropped()).unwrap();
    let mut text = vec![0; kept * 110];
    let mut read = 0;
    while read < text.len() {
        read += reader.read(&mut text[read..]).unwrap();
        log.flush();
    }
    let text = String::from_utf8(text).unwrap();
    for (number, line) in text.lines().enumerate() {
        assert_eq!(line, format!("/{number:08}{}", "x".repeat(100)));
    }
    assert_eq!(text.lines().count(), kept);
}

#[test]
fn a_record_larger_than_the_buffer_is_written_if_it_can_be() {
    let folder = Folder::new();
    let path = folder.file("access.log");
    let mut log = AccessLog::with_buffer(&path, format("%(U)s"), 10).unwrap();
    log.push(&Request { path: vec![b'x'; 100], ..Request::default() });
    assert_eq!((read(&path).len(), log.dropped()), (101, 0));
}

#[test]
fn a_gone_reader_drops() {
    let (mut log, reader) = pipe_log(BUFFER_BYTES_MAX);
    drop(reader);
    log.push(&request(200));
    log.flush();
    assert_eq!((log.pending_bytes(), log.dropped()), (0, 1));
}

#[test]
fn what_cannot_be_opened_is_an_error() {
    let folder = Folder::new();
    assert!(AccessLog::open(&folder.file("no/such"), format("")).is_err());
}
