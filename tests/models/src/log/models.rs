//! Models of the queue of records for Python's `logging`.

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
    let queue = Arc::new(RecordQueue::default());
    let others = ["a", "b"].map(|text| {
        let queue = Arc::clone(&queue);
        thread::spawn(move || queue.push(record(text)))
    });
    let mut taken = queue.take();
    others.into_iter().for_each(|other| other.join().unwrap());
    taken.extend(queue.take());
    let mut texts: Vec<&str> = taken.iter().map(|record| record.text.as_str()).collect();
    texts.sort_unstable();
    assert_eq!(texts, ["a", "b"]);
}

/// Against losses that are never told, and such as are told by two threads.
fn each_loss_is_told_once() {
    let queue = Arc::new(RecordQueue::default());
    let told = Arc::new(AtomicUsize::new(0));
    let take = |queue: &RecordQueue, told: &AtomicUsize| {
        for record in queue.take() {
            let lost = record.text.split(' ').next().and_then(|count| count.parse().ok());
            told.fetch_add(lost.expect("the record begins with a number"), Ordering::Relaxed);
        }
    };
    let writer = thread::spawn({
        let queue = Arc::clone(&queue);
        move || {
            let long = record(&"x".repeat(QUEUED_BYTES_MAX + 1));
            queue.push(long.clone());
            queue.push(long);
        }
    });
    let other = thread::spawn({
        let (queue, told) = (Arc::clone(&queue), Arc::clone(&told));
        move || take(&queue, &told)
    });
    take(&queue, &told);
    writer.join().unwrap();
    other.join().unwrap();
    take(&queue, &told);
    assert_eq!((told.load(Ordering::Relaxed), queue.dropped()), (2, 2));
}
