//! The numbers a worker runs by: settings of the user and limits of ours, units in the names.

use std::time::Duration;

use rgunicorn_http::{BODY_BYTES_CAP, proxy};
use rgunicorn_settings::Networks;

/// Rules of the handoff of connections.
#[derive(Clone, Copy, Debug)]
pub struct HandoffConfig {
    /// Idle connections go to other workers when this one leaves and they go on, or has more than they (`handoff`).
    pub works: bool,
    /// For how long the application works until what waits for it goes to other workers; 0 is for ever
    /// (`handoff_after_ms`).
    pub after: Duration,
}

/// Settings and limits of one worker. [`Default`] gives Gunicorn's defaults where Gunicorn has the setting.
#[derive(Clone, Debug)]
pub struct WorkerConfig {
    /// Open connections at most; at the limit the worker stops accepting (`worker_connections`).
    pub connections_max: usize,
    /// How long a connection must have been idle, or its request unfinished, until it may be closed for a new one that
    /// waits at the limit; zero means never (`evict_after`).
    pub evict_after: Duration,
    /// Idle time allowed on a kept-alive connection; zero turns keep-alive off (`keepalive`).
    pub keepalive: Duration,
    /// Answer every request with `Connection: close` (worker type `sync`).
    pub close_always: bool,
    /// Threads that the application runs in, the loop being apart; 0: it runs on the loop's own thread.
    /// Connections are accepted only while one of them is free (a lone worker accepts always), and as many
    /// connections as there are threads are kept for requests: `connections_max` less this may be idle,
    /// others are closed after their answer.
    pub threads: usize,
    /// Time from the first byte of a request head, or of the PROXY header before it, to its end. Gunicorn's gthread
    /// waits for ever; a bound costs honest clients nothing.
    pub header_timeout: Duration,
    /// Silence allowed while a request body is received.
    pub body_stall_timeout: Duration,
    /// Bytes of a request body that must come in each second, on average; zero allows any rate (`body_min_rate`).
    pub body_bytes_per_s_min: u32,
    /// Time without progress allowed while a response waits for its reader.
    pub write_stall_timeout: Duration,
    /// How long late input is read away after the write side was shut (Gunicorn: 2 s).
    pub linger_timeout: Duration,
    /// How much late input is read away then (Gunicorn: 64 KiB).
    pub linger_bytes_max: usize,
    /// Bytes of a request body at most; a larger one is answered with 413 (`limit_request_body`).
    pub body_bytes_max: u64,
    /// Request body bytes kept in memory; a larger body goes to an unlinked temporary file. nginx keeps 16 KiB;
    /// form posts and API calls fit into this without touching a disk.
    pub body_memory_bytes_max: usize,
    /// Memory for requests that are not with the application yet: unfinished ones, those that wait for their turn,
    /// and bytes of later ones (`limit_request_memory`).
    pub request_memory_bytes_max: usize,
    /// Call the application as soon as a request's head is complete, and let it read the body while that
    /// arrives: for one that can wait without holding up the others.
    pub stream_bodies: bool,
    /// Bytes of such a body received and not yet read; above it reception pauses.
    pub body_window_bytes_max: usize,
    /// How much that the application did not read of such a body is read away for the sake of the next request; with
    /// more to come the connection closes. What lingering reads, for the same purpose.
    pub unread_body_bytes_max: usize,
    /// Bytes of pipelined requests held back while a response is in progress; above it reception pauses.
    pub pipelined_bytes_max: usize,
    /// How long a request must have waited for its turn until a client that has shut its side is taken for
    /// gone; zero means never.
    pub abandon_timeout: Duration,
    /// Requests after which the worker leaves; zero means never (`max_requests` plus its jitter).
    pub requests_max: u64,
    /// All listeners are other workers' too: one that has had its `requests_max` leaves to them what waits there.
    pub shares_listeners: bool,
    /// When connections go to other workers.
    pub handoff: HandoffConfig,
    /// How long a stopping worker may finish its requests (`graceful_timeout`).
    pub graceful_timeout: Duration,
    /// Longest sleep of an idle worker: heartbeat and parent check happen at least this often.
    pub idle_wait_max: Duration,
    /// How long a turn handles what has come, and deadlines, before the application has its turn; the rest comes behind
    /// it. Zero means one completion a turn, for tests.
    pub handling_time_max: Duration,
    /// Which PROXY headers may come before the first request of a connection (`proxy_protocol`).
    pub proxy_protocol: proxy::ProxyMode,
    /// Peers that may send them (`proxy_allow_ips`).
    pub proxy_allowed: Networks,
}

impl WorkerConfig {
    /// Computes the part of the memory for requests that each connection may count on, whatever the others hold: half
    /// of it, divided by all.
    pub(crate) fn request_share_bytes(&self) -> usize {
        self.request_memory_bytes_max / 2 / self.connections_max.max(1)
    }

    /// Computes how long a new connection may send nothing: it is an idle one until its first byte, for balancers and
    /// browsers open connections ahead of their requests. A short `keepalive`, or none, is about the time after an
    /// answer, and leaves a new client the time that it has for a head.
    pub(crate) fn first_byte_timeout(&self) -> Duration {
        self.keepalive.max(self.header_timeout)
    }
}

impl Default for WorkerConfig {
    fn default() -> Self {
        Self {
            connections_max: 1000,
            evict_after: Duration::from_secs(1),
            keepalive: Duration::from_secs(2),
            close_always: false,
            threads: 0,
            header_timeout: Duration::from_secs(10),
            body_stall_timeout: Duration::from_secs(30),
            body_bytes_per_s_min: 0,
            write_stall_timeout: Duration::from_secs(60),
            linger_timeout: Duration::from_secs(2),
            linger_bytes_max: 64 * 1024,
            body_bytes_max: BODY_BYTES_CAP,
            body_memory_bytes_max: 512 * 1024,
            request_memory_bytes_max: 64 * 1024 * 1024,
            stream_bodies: false,
            body_window_bytes_max: 64 * 1024,
            unread_body_bytes_max: 64 * 1024,
            pipelined_bytes_max: 64 * 1024,
            abandon_timeout: Duration::from_secs(5),
            requests_max: 0,
            shares_listeners: true,
            handoff: HandoffConfig { works: true, after: Duration::from_millis(5) },
            graceful_timeout: Duration::from_secs(30),
            idle_wait_max: Duration::from_secs(1),
            handling_time_max: Duration::from_millis(2),
            proxy_protocol: proxy::ProxyMode::Off,
            proxy_allowed: Networks::default(),
        }
    }
}
