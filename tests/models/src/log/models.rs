//! Models of the queue of diverted records.

use std::sync::Arc;

use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

use super::level::Level;
use super::record_queue::{QUEUED_BYTES_MAX, Record, RecordQueue};
use crate::check;

pub(crate) fn all() {
    check("each record is taken", each_record_is_taken);
    check("each loss is told once", each_loss_is_told_once);
}

fn record(text: &str) -> Record {
    Record { level: Level::Info, text: text.to_owned() }
}

/// Against a record that is queued while the one that takes them is told that there is nothing.
fn each_record_is_taken() {
    let diversion = Arc::new(RecordQueue::default());
    let others = ["a", "b"].map(|text| {
        let diversion = Arc::clone(&diversion);
        thread::spawn(move || diversion.push(record(text)))
    });
    let mut taken = diversion.take();
    others.into_iter().for_each(|other| other.join().unwrap());
    taken.extend(diversion.take());
    let mut texts: Vec<&str> = taken.iter().map(|record| record.text.as_str()).collect();
    texts.sort_unstable();
    assert_eq!(texts, ["a", "b"]);
}

/// Against losses that are never told, and such as are told by two threads.
fn each_loss_is_told_once() {
    let diversion = Arc::new(RecordQueue::default());
    let told = Arc::new(AtomicUsize::new(0));
    let take = |diversion: &RecordQueue, told: &AtomicUsize| {
        for record in diversion.take() {
            let lost = record.text.split(' ').next().and_then(|count| count.parse().ok());
            told.fetch_add(lost.expect("the record begins with a number"), Ordering::Relaxed);
        }
    };
    let writer = thread::spawn({
        let diversion = Arc::clone(&diversion);
        move || {
            let long = record(&"x".repeat(QUEUED_BYTES_MAX + 1));
            diversion.push(long.clone());
            diversion.push(long);
        }
    });
    let other = thread::spawn({
        let (diversion, told) = (Arc::clone(&diversion), Arc::clone(&told));
        move || take(&diversion, &told)
    });
    take(&diversion, &told);
    writer.join().unwrap();
    other.join().unwrap();
    take(&diversion, &told);
    assert_eq!((told.load(Ordering::Relaxed), diversion.dropped()), (2, 2));
}
