//! Does the error log say what it should, where it should, and never fail?

use std::os::fd::AsRawFd;
use std::sync::Arc;

use super::{Folder, read};
use crate::log::{ErrorLog, Level};

#[test]
fn a_record_is_one_line_in_gunicorns_form() {
    let folder = Folder::new();
    let path = folder.file("error.log");
    let log = ErrorLog::open(&path, Level::Info).unwrap();
    log.info(format_args!("Listening at: {} ({})", "http://127.0.0.1:8000", 1));
    let text = read(&path);
    let pid = std::process::id();
    let (time, rest) = text.split_at(27);
    assert_eq!(rest, format!(" [{pid}] [INFO] Listening at: http://127.0.0.1:8000 (1)\n"));
    let shape: String = time.chars().map(|c| if c.is_ascii_digit() { '9' } else { c }).collect();
    assert_eq!(shape.replace('-', "+"), "[9999+99+99 99:99:99 +9999]");
}

#[test]
fn lines_of_a_message_stay_as_they_are() {
    let folder = Folder::new();
    let path = folder.file("error.log");
    ErrorLog::open(&path, Level::Debug).unwrap().error(format_args!("one\n  two\n"));
    assert!(read(&path).ends_with("[ERROR] one\n  two\n\n"));
}

#[test]
fn each_level_lets_through_itself_and_worse() {
    let folder = Folder::new();
    for least in Level::ALL {
        let path = folder.file(least.name());
        let log = ErrorLog::open(&path, Level::Critical).unwrap();
        log.set_level(least);
        for level in Level::ALL {
            assert_eq!(log.enabled(level), level >= least);
            log.log(level, format_args!("x"));
        }
        let text = read(&path);
        let expected: Vec<&str> =
            Level::ALL.iter().filter(|level| **level >= least).map(|level| level.name()).collect();
        let written: Vec<&str> = text.lines().map(|line| line.split(['[', ']']).nth(5).unwrap()).collect();
        assert_eq!(written, expected);
    }
}

#[test]
fn level_names() {
    for (text, level) in [
        ("debug", Level::Debug),
        ("Info", Level::Info),
        ("WARNING", Level::Warning),
        ("error", Level::Error),
        ("critical", Level::Critical),
        ("warn", Level::Info),
        ("", Level::Info),
    ] {
        assert_eq!(Level::from_text(text), level, "{text}");
    }
}

#[test]
fn after_a_rename_and_a_reopen_records_go_to_the_new_file_through_the_same_descriptor() {
    let folder = Folder::new();
    let (path, old) = (folder.file("error.log"), folder.file("error.log.1"));
    let log = ErrorLog::open(&path, Level::Info).unwrap();
    let fd = log.as_raw_fd();
    log.info(format_args!("first"));
    std::fs::rename(&path, &old).unwrap();
    log.info(format_args!("second"));
    log.reopen().unwrap();
    log.info(format_args!("third"));
    assert_eq!(log.as_raw_fd(), fd);
    let old = read(&old);
    assert!(old.contains("first") && old.contains("second") && !old.contains("third"));
    assert!(read(&path).ends_with("third\n") && !read(&path).contains("second"));
}

#[test]
fn a_failed_reopen_keeps_the_old_file() {
    let folder = Folder::new();
    std::fs::create_dir(folder.file("logs")).unwrap();
    let (path, old) = (folder.file("logs/error.log"), folder.file("error.log.1"));
    let log = ErrorLog::open(&path, Level::Info).unwrap();
    std::fs::rename(&path, &old).unwrap();
    std::fs::remove_dir(folder.file("logs")).unwrap();
    assert_eq!(log.reopen().unwrap_err().kind(), std::io::ErrorKind::NotFound);
    log.info(format_args!("still here"));
    assert!(read(&old).ends_with("still here\n"));
}

#[test]
fn what_cannot_be_opened_is_an_error_and_what_cannot_be_written_is_not() {
    let folder = Folder::new();
    assert!(ErrorLog::open(&folder.file("no/such/error.log"), Level::Info).is_err());
    assert!(ErrorLog::open(&folder.file(""), Level::Info).is_err());
    let full = ErrorLog::open("/dev/full", Level::Info).unwrap();
    full.error(format_args!("gone"));
    full.write(b"gone too");
    full.reopen().unwrap();
}

#[test]
fn a_message_that_cannot_be_formatted_is_logged_as_far_as_it_goes() {
    struct Broken;
    impl std::fmt::Display for Broken {
        fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            Err(std::fmt::Error)
        }
    }
    let folder = Folder::new();
    let path = folder.file("error.log");
    ErrorLog::open(&path, Level::Info).unwrap().error(format_args!("before {Broken} after"));
    assert!(read(&path).ends_with("[ERROR] before \n"));
}

#[test]
fn records_of_many_threads_stay_whole_across_reopens() {
    let folder = Folder::new();
    let path = folder.file("error.log");
    let log = Arc::new(ErrorLog::open(&path, Level::Info).unwrap());
    let threads: Vec<_> = (0..4)
        .map(|number| {
            let log = Arc::clone(&log);
            std::thread::spawn(move || {
                for _ in 0..200 {
                    log.info(format_args!("thread {number} {}", "x".repeat(500)));
                }
            })
        })
        .collect();
    for _ in 0..50 {
        log.reopen().unwrap();
    }
    for thread in threads {
        thread.join().unwrap();
    }
    let text = read(&path);
    assert_eq!(text.lines().count(), 800);
    assert!(text.lines().all(|line| line.ends_with(&"x".repeat(500)) && line.starts_with('[')));
}
