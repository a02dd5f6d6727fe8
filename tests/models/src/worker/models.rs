//! Models of the mailbox.

use std::sync::{Arc, Mutex};

use loom::thread;

use super::Reactor;
use super::mailbox::TaskQueue;
use crate::check;
use crate::sys::eventfd::EventFd;

/// The mailbox of the reactor.
type Mailbox = TaskQueue<Reactor>;

pub(crate) fn all() {
    check("each task is done", each_task_is_done);
    check("a closed mailbox keeps nothing", a_closed_mailbox_keeps_nothing);
}

/// The turns of a reactor, as far as mail is concerned, until `wanted` says that all has come.
fn turns(mailbox: &Mailbox, event: &EventFd, wanted: impl Fn() -> bool) {
    while !wanted() {
        if mailbox.begin_wait() {
            event.poll();
            mailbox.drain().unwrap();
        } else if event.count() > 0 {
            mailbox.drain().unwrap();
        }
        run_tasks(mailbox);
    }
}

/// Ends a wait of the reactor.
fn run_tasks(mailbox: &Mailbox) {
    let mut tasks = Vec::new();
    mailbox.end_wait(&mut tasks);
    tasks.into_iter().for_each(|task| task(&Reactor));
}

/// Against a post that falls between the loop's last look and its sleep.
fn each_task_is_done() {
    let mailbox = Arc::new(Mailbox::new().unwrap());
    let event = EventFd::newest();
    let done = Arc::new(Mutex::new(Vec::new()));
    let others = [&[10, 11][..], &[20]].map(|numbers| {
        let (mailbox, done) = (Arc::clone(&mailbox), Arc::clone(&done));
        thread::spawn(move || {
            for number in numbers {
                let done = Arc::clone(&done);
                mailbox.post(Box::new(move |_: &Reactor| done.lock().unwrap().push(*number)));
            }
        })
    });
    turns(&mailbox, &event, || done.lock().unwrap().len() == 3);
    others.into_iter().for_each(|other| other.join().unwrap());
    let mut done = done.lock().unwrap();
    assert!(done.iter().position(|number| *number == 10) < done.iter().position(|number| *number == 11));
    done.sort_unstable();
    assert_eq!(*done, [10, 11, 20]);
}

/// Against a task that is neither done nor dropped, so that its sender waits for ever.
fn a_closed_mailbox_keeps_nothing() {
    let mailbox = Arc::new(Mailbox::new().unwrap());
    let task = Arc::new(());
    let other = thread::spawn({
        let (mailbox, task) = (Arc::clone(&mailbox), Arc::clone(&task));
        move || mailbox.post(Box::new(move |_: &Reactor| drop(task)))
    });
    run_tasks(&mailbox);
    mailbox.close();
    other.join().unwrap();
    assert_eq!(Arc::strong_count(&task), 1);
}
