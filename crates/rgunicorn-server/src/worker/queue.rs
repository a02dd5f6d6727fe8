//! Requests on their way from the loop to the threads that run the application.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::Request;

/// A queue that any number of threads take from, each request once, in order of arrival. Its length is bounded by
/// `worker_connections`: a connection has one request in progress at most.
#[derive(Debug, Default)]
pub struct RequestQueue {
    waiting: Mutex<Waiting>,
    filled: Condvar,
    /// See [`Self::held_bytes`].
    held_bytes: AtomicUsize,
}

#[derive(Debug, Default)]
struct Waiting {
    requests: VecDeque<Box<Request>>,
    closed: bool,
}

impl RequestQueue {
    /// Hands a request to the next thread that is free. Gives it back when the pool is closed.
    ///
    /// # Errors
    /// The request, if the pool is closed.
    pub fn push(&self, request: Box<Request>) -> Result<(), Box<Request>> {
        {
            let mut waiting = self.waiting();
            if waiting.closed {
                return Err(request);
            }
            self.held_bytes.fetch_add(request.held_bytes, Relaxed);
            waiting.requests.push_back(request);
        }
        self.filled.notify_one();
        Ok(())
    }

    /// Takes out the oldest request, as soon as there is one; `None` when the pool is closed. Blocks.
    pub fn take(&self) -> Option<Box<Request>> {
        let mut waiting = self.waiting();
        loop {
            if waiting.closed {
                return None;
            }
            if let Some(request) = waiting.requests.pop_front() {
                self.held_bytes.fetch_sub(request.held_bytes, Relaxed);
                return Some(request);
            }
            waiting = self.filled.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Takes out the oldest request for which `wanted` holds, if one waits. Does not block.
    pub fn take_waiting(&self, wanted: &dyn Fn(&Request) -> bool) -> Option<Box<Request>> {
        let requests = &mut self.waiting().requests;
        let at = requests.iter().position(|request| wanted(request))?;
        let request = requests.remove(at)?;
        self.held_bytes.fetch_sub(request.held_bytes, Relaxed);
        Some(request)
    }

    /// Puts a request before all that wait. Gives it back when the pool is closed.
    ///
    /// # Errors
    /// The request, if the pool is closed.
    pub fn put_back(&self, request: Box<Request>) -> Result<(), Box<Request>> {
        {
            let mut waiting = self.waiting();
            if waiting.closed {
                return Err(request);
            }
            self.held_bytes.fetch_add(request.held_bytes, Relaxed);
            waiting.requests.push_front(request);
        }
        self.filled.notify_one();
        Ok(())
    }

    /// Returns how many requests wait for a thread.
    pub fn waiting_count(&self) -> usize {
        self.waiting().requests.len()
    }

    /// Returns the memory of requests that wait for a thread.
    pub fn held_bytes(&self) -> usize {
        self.held_bytes.load(Relaxed)
    }

    /// Takes no more, and lets the threads go; requests that no thread has taken are dropped.
    pub fn close(&self) {
        let dropped = {
            let mut waiting = self.waiting();
            waiting.closed = true;
            self.held_bytes.store(0, Relaxed);
            std::mem::take(&mut waiting.requests)
        };
        self.filled.notify_all();
        drop(dropped);
    }

    /// Locks the requests. No code of others runs under the lock, so a poisoned one is as good as any.
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
