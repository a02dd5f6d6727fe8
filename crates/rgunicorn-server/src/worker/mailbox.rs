//! Work that other threads give to the loop: threads that run the application must not touch the reactor, so
//! they say what is to be done with it.

use std::fmt;
use std::io;
use std::os::fd::RawFd;
use std::sync::PoisonError;

use rgunicorn_io::sys::sync::{Mutex, MutexGuard};
use rgunicorn_io::sys::waker::Waker;

/// Something to do with a `T` (the reactor), on its thread, with nothing borrowed.
pub type Task<T> = Box<dyn FnOnce(&T) + Send>;

/// A queue of tasks in the order in which they were posted, and the way to wake the loop for them.
pub struct TaskQueue<T: ?Sized> {
    tasks: Mutex<Tasks<T>>,
    waker: Waker,
}

struct Tasks<T: ?Sized> {
    queue: Vec<Task<T>>,
    closed: bool,
}

impl<T: ?Sized> fmt::Debug for TaskQueue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskQueue").field("waiting", &self.tasks().queue.len()).finish_non_exhaustive()
    }
}

impl<T: ?Sized> TaskQueue<T> {
    /// Makes an empty one.
    ///
    /// # Errors
    /// Those of eventfd(2).
    pub fn new() -> io::Result<Self> {
        Ok(Self { tasks: Mutex::new(Tasks { queue: Vec::new(), closed: false }), waker: Waker::new()? })
    }

    /// Has `task` run by the loop, soon. Once the loop is over tasks are dropped instead, and whatever they
    /// own with them: a thread that waits for one learns it by the end of the channel that it would have
    /// answered on.
    pub fn post(&self, task: Task<T>) {
        {
            let mut tasks = self.tasks();
            if tasks.closed {
                drop(tasks);
                return drop(task);
            }
            tasks.queue.push(task);
        }
        self.waker.wake();
    }

    /// Takes no more tasks, and drops those that wait: the loop is over.
    pub fn close(&self) {
        let dropped = {
            let mut tasks = self.tasks();
            tasks.closed = true;
            std::mem::take(&mut tasks.queue)
        };
        drop(dropped);
    }

    /// Returns the descriptor that the loop polls.
    pub(super) fn fd(&self) -> RawFd {
        self.waker.fd()
    }

    /// Begins the loop's wait. `false`: it must not wait, there are tasks.
    pub(super) fn begin_wait(&self) -> bool {
        let tasks = self.tasks();
        let empty = tasks.queue.is_empty();
        self.waker.set_sleeping(empty);
        empty
    }

    /// Ends the loop's wait. Puts the tasks that have come, in their order, in the place of `tasks`, whose memory will
    /// keep the next ones.
    pub(super) fn end_wait(&self, tasks: &mut Vec<Task<T>>) {
        debug_assert!(tasks.is_empty(), "none is forgotten");
        self.waker.set_sleeping(false);
        std::mem::swap(&mut self.tasks().queue, tasks);
    }

    /// Empties the descriptor, which was readable.
    ///
    /// # Errors
    /// It stays readable.
    pub(super) fn drain(&self) -> io::Result<()> {
        self.waker.drain()
    }

    /// Locks the tasks. No code of others runs under the lock, so a poisoned one is as good as any.
    fn tasks(&self) -> MutexGuard<'_, Tasks<T>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsRawFd;
    use std::sync::Arc;
    use std::sync::mpsc::{Sender, channel};
    use std::thread;
    use std::time::Duration;

    use crate::log::{ErrorLog, Level};
    use crate::worker::{
        App, Control, ExitStatus, ListenerSpec, Mailbox, Reactor, Request, RequestId, WakeSources,
        WorkerConfig, WorkerHandles,
    };
    use rgunicorn_http::Policy;
    use rgunicorn_io::driver::{Choice, Config, Driver};
    use rgunicorn_io::sys::process;
    use rgunicorn_io::sys::shared::Scoreboard;

    struct NoApp;

    impl App for NoApp {
        fn blocking(&self, wait: &mut dyn FnMut()) {
            wait();
        }
        fn check_signals(&self, _: bool) -> Result<(), ExitStatus> {
            Ok(())
        }
        fn call(&self, _: &Reactor, _: Box<Request>) {}
        fn resume(&self, _: &Reactor, _: RequestId) {}
        fn abandon(&self, _: &Reactor, _: RequestId) {}
    }

    /// On every driver that there is.
    fn each_reactor(test: impl Fn(&Reactor, &Arc<Mailbox>)) {
        each_reactor_at(&[], test);
    }

    fn each_reactor_at(listeners: &[ListenerSpec], test: impl Fn(&Reactor, &Arc<Mailbox>)) {
        for choice in [Choice::Uring, Choice::Epoll] {
            let Ok((driver, _)) = Driver::open(&Config { choice, ..Config::default() }) else { continue };
            let mailbox = Arc::new(Mailbox::new().unwrap());
            let handles = WorkerHandles {
                errors: Arc::new(ErrorLog::open("/dev/null", Level::Debug).unwrap()),
                access: RefCell::new(None),
                slot: Scoreboard::new().unwrap().claim(1).unwrap(),
                control: Arc::new(Control::default()),
                trusted: rgunicorn_settings::Networks::default(),
                parent: process::parent_id(),
                listener_guard: RefCell::new(None),
                handoff: None,
                make_body_memory: None,
            };
            let wakes = WakeSources { signals: None, mailbox: Some(Arc::clone(&mailbox)) };
            // Only mail ends its sleep in time.
            let config = WorkerConfig { idle_wait_max: Duration::from_secs(60), ..WorkerConfig::default() };
            test(&Reactor::new(driver, listeners, wakes, handles, config, Policy::default()), &mailbox);
        }
    }

    #[test]
    fn a_sleeping_loop_wakes_for_each_task_and_does_them_in_order() {
        each_reactor(|reactor, mailbox| {
            let (sender, done) = channel();
            let other = thread::spawn({
                let mailbox = Arc::clone(mailbox);
                move || {
                    let mut seen = Vec::new();
                    for number in 0..1000 {
                        let sender = sender.clone();
                        mailbox.post(Box::new(move |_: &Reactor| sender.send(number).unwrap()));
                        // Every tenth is waited for, so that the loop sleeps in between.
                        if number % 10 == 9 {
                            seen.extend((0..10).map(|_| done.recv().unwrap()));
                        }
                    }
                    mailbox.post(Box::new(|reactor: &Reactor| reactor.handles().control.quit(7)));
                    seen
                }
            });
            assert_eq!(reactor.run(&NoApp), 7);
            assert_eq!(other.join().unwrap(), (0..1000).collect::<Vec<i32>>());
        });
    }

    #[test]
    fn who_waits_for_a_task_of_a_loop_that_is_over_is_told() {
        each_reactor(|_, mailbox| {
            let (sender, answer) = channel::<()>();
            let late = sender.clone();
            mailbox.post(Box::new(move |_: &Reactor| sender.send(()).unwrap()));
            mailbox.close();
            mailbox.post(Box::new(move |_: &Reactor| late.send(()).unwrap()));
            assert!(answer.recv().is_err());
        });
    }

    #[test]
    fn a_turn_that_finds_mail_is_a_turn_like_any_other() {
        each_reactor(|reactor, mailbox| {
            {
                let core = &mut *reactor.core();
                core.acceptor.set_just_accepted();
                core.turn.add_requests(5);
            }
            mailbox.post(Box::new(|_: &Reactor| ()));
            assert_eq!(reactor.before_wait(), Duration::ZERO);
            let core = &*reactor.core();
            assert_eq!((core.acceptor.has_just_accepted(), core.turn.requests()), (false, 0));
        });
    }

    /// Keeps the name of its request for the test to act on.
    #[derive(Default)]
    struct Keeper(Cell<Option<RequestId>>);

    impl App for Keeper {
        fn blocking(&self, wait: &mut dyn FnMut()) {
            wait();
        }
        fn check_signals(&self, _: bool) -> Result<(), ExitStatus> {
            Ok(())
        }
        fn call(&self, _: &Reactor, request: Box<Request>) {
            self.0.set(Some(request.id));
        }
        fn resume(&self, _: &Reactor, _: RequestId) {}
        fn abandon(&self, _: &Reactor, _: RequestId) {}
    }

    fn turn(reactor: &Reactor, app: &Keeper) {
        let mut completions = Vec::new();
        let _ = reactor.before_wait();
        assert!(reactor.wait(app, Duration::from_millis(1), &mut completions));
        reactor.after_wait(&mut completions);
        reactor.run_jobs(app, false);
        reactor.end_turn();
    }

    #[test]
    fn a_task_that_takes_a_connection_over_gets_what_came_in_the_same_wait() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let spec = ListenerSpec { fd: listener.as_raw_fd(), unix: false, shared: false, key: 1 };
        each_reactor_at(&[spec], |reactor, mailbox| {
            let app = Keeper::default();
            let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
            let id = loop {
                turn(reactor, &app);
                if let Some(id) = app.0.get() {
                    break id;
                }
            };
            // Within this machine, what is sent has arrived.
            client.write_all(b"its own").unwrap();
            let (sender, taken) = channel();
            let post = |sender: Sender<_>| {
                mailbox.post(Box::new(move |reactor: &Reactor| sender.send(reactor.hijack(id)).unwrap()));
            };
            post(sender);
            turn(reactor, &app);
            assert_eq!(taken.recv().unwrap().unwrap().unread, b"its own");
            reactor.finish(id, false);
        });
    }

    #[test]
    fn a_task_that_panics_stops_no_other() {
        each_reactor(|reactor, mailbox| {
            mailbox.post(Box::new(|_: &Reactor| panic!("a task fails")));
            mailbox.post(Box::new(|reactor: &Reactor| reactor.handles().control.quit(3)));
            assert_eq!(reactor.run(&NoApp), 3);
        });
    }
}
