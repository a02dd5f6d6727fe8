//! Do queued records come out once, in order, bounded and by whatever thread, and end in the file if no
//! logger takes them?

use std::sync::Arc;

use super::{Folder, read};
use crate::log::{ErrorLog, Level, QUEUED_BYTES_MAX, QUEUED_RECORDS_MAX, Record};

fn texts(records: &[Record]) -> Vec<&str> {
    records.iter().map(|record| record.text.as_str()).collect()
}

#[test]
fn records_wait_instead_of_being_written() {
    let folder = Folder::new();
    let path = folder.file("error.log");
    let log = ErrorLog::open(&path, Level::Info).unwrap();
    log.info(format_args!("before"));
    assert_eq!(log.take_queued(), []);
    log.queue_records();
    log.debug(format_args!("too little"));
    log.error(format_args!("one\n  {}", 2));
    log.critical(format_args!("three"));
    log.write(b"raw\n");
    let record = |level, text: &str| Record { level, text: text.to_owned() };
    let expected = [record(Level::Error, "one\n  2"), record(Level::Critical, "three")];
    assert_eq!(log.take_queued(), expected);
    assert_eq!(log.take_queued(), []);
    assert!(read(&path).ends_with("[INFO] before\nraw\n"), "{}", read(&path));
}

#[test]
fn records_that_no_logger_took_are_written_in_the_end() {
    let folder = Folder::new();
    let path = folder.file("error.log");
    let log = ErrorLog::open(&path, Level::Info).unwrap();
    log.queue_records();
    log.info(format_args!("at a hard end"));
    log.write_queued();
    assert!(read(&path).ends_with("[INFO] at a hard end\n"));
    log.info(format_args!("of the queue"));
    log.stop_queueing();
    log.info(format_args!("direct"));
    assert!(read(&path).ends_with("direct\n") && read(&path).contains("of the queue\n"));
    log.queue_records();
    log.info(format_args!("of the log"));
    drop(log);
    assert!(read(&path).ends_with("[INFO] of the log\n"));
    assert_eq!(read(&path).lines().count(), 4);
}

#[test]
fn too_many_records_are_dropped_counted_and_told_once() {
    let log = ErrorLog::open("/dev/null", Level::Info).unwrap();
    log.queue_records();
    for number in 0..QUEUED_RECORDS_MAX + 7 {
        log.info(format_args!("{number}"));
    }
    assert_eq!(log.queued_dropped(), 7);
    let records = log.take_queued();
    assert_eq!(records.len(), QUEUED_RECORDS_MAX + 1);
    assert_eq!(records[QUEUED_RECORDS_MAX - 1].text, (QUEUED_RECORDS_MAX - 1).to_string());
    let told = records.last().unwrap();
    assert_eq!(told.level, Level::Warning);
    assert!(told.text.starts_with("7 records of this log were dropped"), "{}", told.text);
    log.info(format_args!("room again"));
    assert_eq!(texts(&log.take_queued()), ["room again"]);
    assert_eq!(log.queued_dropped(), 7);
}

#[test]
fn too_much_text_is_dropped() {
    let log = ErrorLog::open("/dev/null", Level::Info).unwrap();
    log.queue_records();
    let text = "x".repeat(QUEUED_BYTES_MAX / 2);
    for _ in 0..3 {
        log.info(format_args!("{text}"));
    }
    log.info(format_args!(""));
    let records = log.take_queued();
    assert_eq!((records.len(), log.queued_dropped()), (4, 1));
    log.info(format_args!("{text}"));
    assert_eq!(log.take_queued().len(), 1);
}

#[test]
fn records_of_many_threads_come_out_once_each_and_in_the_order_of_their_thread() {
    const THREADS: usize = 4;
    const RECORDS: usize = 2_000;
    let log = Arc::new(ErrorLog::open("/dev/null", Level::Info).unwrap());
    log.queue_records();
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            let log = Arc::clone(&log);
            std::thread::spawn(move || {
                for number in 0..RECORDS {
                    log.info(format_args!("{thread} {number}"));
                }
            })
        })
        .collect();
    let mut taken = Vec::new();
    while threads.iter().any(|thread| !thread.is_finished()) {
        taken.extend(log.take_queued());
    }
    for thread in threads {
        thread.join().unwrap();
    }
    taken.extend(log.take_queued());
    taken.retain(|record| record.level == Level::Info);
    assert_eq!(taken.len() as u64 + log.queued_dropped(), (THREADS * RECORDS) as u64);
    let mut last = [None; THREADS];
    for record in &taken {
        let (thread, number) = record.text.split_once(' ').unwrap();
        let (thread, number): (usize, usize) = (thread.parse().unwrap(), number.parse().unwrap());
        assert!(last[thread] < Some(number), "{} after {:?}", record.text, last[thread]);
        last[thread] = Some(number);
    }
}
