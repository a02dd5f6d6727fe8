//! The rows of an ended child in the decision table: what is said about it, and what follows from it.
//!
//! A worker that ends is replaced, and one that ends as soon as it has begun after a pause ([`BackOff`]). One that
//! could not boot ends the server, with the exit status that Gunicorn gives it, as long as the server has not served
//! yet, or when no other worker serves. After that it says more about this moment (no memory, no process left) than
//! about the application: it is tried again, and the others serve on.
//!
//! [`BackOff`]: super::backoff::BackOff

use super::backoff::LIVED_AFTER;
use super::event::Action;
use super::state::{MasterState, Worker, log};
use super::{HookEvent, Level, STATUS_APP_LOAD_ERROR, STATUS_WORKER_BOOT_ERROR};
use rgunicorn_io::sys::clock::Instant;
use rgunicorn_io::sys::process::{ChildExit, Pid};
use rgunicorn_io::sys::shared::SlotReading;
use rgunicorn_io::sys::signal::Signal;

impl MasterState {
    pub(super) fn ended(
        &mut self,
        pid: Pid,
        exit: ChildExit,
        reading: Option<SlotReading>,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        if self.new_master_ended(pid, exit, out) {
            return;
        }
        let Some(index) = self.workers.iter().position(|worker| worker.pid == pid) else {
            let status = match exit {
                ChildExit::Code(code) => code.to_string(),
                ChildExit::Signal(signal) => signal.to_string(),
            };
            log(out, Level::Debug, format!("Reaped unknown child process (pid:{pid}, status:{status})"));
            return;
        };
        let mut worker = self.workers.remove(index);
        if let Some(reading) = reading {
            worker.look(&reading, now);
        }
        self.log_exit(&worker, exit, out);
        out.push(Action::Release { pid });
        out.push(Action::Hook(HookEvent::ChildExit { pid, age: worker.age }));
        if self.is_stopping() || worker.generation != self.generation {
            return;
        }
        match (worker.booted, self.canary.is_some()) {
            (true, true) => return self.accept_canary(out),
            (false, true) => return self.reject_canary("a new worker did not boot", out),
            // The exit status is not the worker's own: the master has aborted it.
            (false, false) if worker.aborted => return,
            (_, false) => {}
        }
        let boot_failure = match exit {
            _ if worker.booted => None,
            ChildExit::Code(STATUS_WORKER_BOOT_ERROR) => Some("Worker failed to boot."),
            ChildExit::Code(STATUS_APP_LOAD_ERROR) => Some("App failed to load."),
            _ => None,
        };
        match (boot_failure, exit) {
            (Some(reason), ChildExit::Code(status)) if !self.serves_on() => {
                self.stop(true, status, Some(reason), now, out);
            }
            _ => self.note_end(&worker, boot_failure, now, out),
        }
    }

    /// Returns whether the server has served, and does so without the worker that has ended.
    fn serves_on(&self) -> bool {
        self.has_served && self.count(|worker, _| worker.booted && !worker.stopping) > 0
    }

    /// Lets the next workers wait if this one has ended as soon as it had begun.
    fn note_end(
        &mut self,
        worker: &Worker,
        boot_failure: Option<&'static str>,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        let lived = worker.booted_at.is_some_and(|at| now.since(at) >= LIVED_AFTER);
        // The master's wishes say nothing about a worker's health, and neither does the end of one that has worked.
        if worker.told || worker.aborted || worker.has_requests || lived {
            return;
        }
        let pause = self.back_off.note_end(worker.born, now);
        if let Some(reason) = boot_failure {
            log(out, Level::Error, format!("{reason} The others serve on, and it is tried again."));
        }
        if let Some(pause) = pause {
            let text = format!("Workers end as soon as they begin: the next one in {} ms", pause.as_millis());
            log(out, Level::Warning, text);
        }
    }

    fn log_exit(&self, worker: &Worker, exit: ChildExit, out: &mut Vec<Action>) {
        let pid = worker.pid;
        match exit {
            ChildExit::Code(0) => {}
            ChildExit::Code(code) => {
                log(out, Level::Error, format!("Worker (pid:{pid}) exited with code {code}."))
            }
            ChildExit::Signal(signal) => {
                let (level, remark) = match signal {
                    Signal::KILL if worker.aborted && worker.beat.is_none() => {
                        (Level::Error, " It had not booted within boot_timeout.")
                    }
                    Signal::KILL if worker.aborted => {
                        (Level::Error, " It had been silent for longer than its timeout.")
                    }
                    Signal::KILL if self.has_killed() => {
                        (Level::Error, " It did not stop within graceful_timeout.")
                    }
                    Signal::KILL => (Level::Error, " Perhaps out of memory?"),
                    Signal::TERM => (Level::Info, ""),
                    _ => (Level::Warning, ""),
                };
                log(out, level, format!("Worker (pid:{pid}) was sent {signal}!{remark}"));
            }
        }
    }
}
