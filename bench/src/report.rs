//! The result of a run: counters while it runs, a progress line a second, one JSON object at the end.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use crate::histogram::Histogram;

/// Why a request got no usable answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Failure {
    /// The connection could not be opened.
    Connect,
    /// The request could not be written.
    Write,
    /// Reading failed, as after a reset.
    Read,
    /// The server closed before the first byte of the answer.
    ClosedBeforeAnswer,
    /// The server closed in the middle of the answer.
    ClosedInAnswer,
    /// No complete answer within the time-out.
    Timeout,
    /// The answer was not HTTP.
    Malformed,
    /// A status of 400 or more.
    Status,
}

impl Failure {
    /// Returns the name in the report.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Write => "write",
            Self::Read => "read",
            Self::ClosedBeforeAnswer => "closed_before_answer",
            Self::ClosedInAnswer => "closed_in_answer",
            Self::Timeout => "timeout",
            Self::Malformed => "malformed",
            Self::Status => "status",
        }
    }
}

/// Counters of a run.
#[derive(Debug, Default)]
pub(crate) struct Stats {
    /// Latencies of all answered requests, in nanoseconds.
    pub latency_ns: Histogram,
    /// Bytes read.
    pub received_bytes: u64,
    /// Connections that are open now.
    pub open: u64,
    /// The most that were open at once.
    pub open_max: u64,
    /// Connections opened in place of one that had ended.
    pub reconnects: u64,
    failures: BTreeMap<Failure, u64>,
    statuses: BTreeMap<u16, u64>,
}

impl Stats {
    /// Counts an answer. One with an error status is a failure too.
    pub(crate) fn answered(&mut self, status: u16, latency: Duration) {
        self.latency_ns.record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
        *self.statuses.entry(status).or_default() += 1;
        if status >= 400 {
            self.failed(Failure::Status);
        }
    }

    /// Counts a failure; tells how many of this kind there are now.
    pub(crate) fn failed(&mut self, failure: Failure) -> u64 {
        let count = self.failures.entry(failure).or_default();
        *count += 1;
        *count
    }

    /// Counts a connection that has opened.
    pub(crate) fn opened(&mut self) {
        self.open += 1;
        self.open_max = self.open_max.max(self.open);
    }

    /// Returns the number of failures so far.
    pub(crate) fn errors(&self) -> u64 {
        self.failures.values().sum()
    }

    /// Renders the line for second `second`; `before` is the number of requests answered up to the line before.
    pub(crate) fn progress(&self, second: u64, before: u64) -> String {
        let done = self.latency_ns.count();
        format!(
            "[{second:4} s] {} open, {done} requests, {}/s, p99 {:.2} ms, {} errors",
            self.open,
            done - before,
            millis(self.latency_ns.percentile(99.0)),
            self.errors()
        )
    }

    /// Renders the result as one JSON object. Latencies are in microseconds.
    pub(crate) fn json(&self, target: &str, connections: u32, elapsed: Duration) -> String {
        let requests = self.latency_ns.count();
        let mut out = String::from("{");
        let mut field = |name: &str, value: String| {
            let comma = if out.len() > 1 { ", " } else { "" };
            // Writing to a String cannot fail.
            let _ = write!(out, "{comma}{}: {value}", quoted(name));
        };
        field("target", quoted(target));
        field("connections", connections.to_string());
        field("connections_open_max", self.open_max.to_string());
        field("reconnects", self.reconnects.to_string());
        field("elapsed_s", format!("{:.3}", elapsed.as_secs_f64()));
        field("requests", requests.to_string());
        field("requests_per_s", format!("{:.1}", per_second(requests, elapsed)));
        field("received_bytes", self.received_bytes.to_string());
        field("latency_us", self.latency_json());
        field("statuses", object(self.statuses.iter().map(|(status, count)| (status.to_string(), *count))));
        field("errors", object(self.failures.iter().map(|(kind, count)| (kind.name().to_owned(), *count))));
        field("errors_total", self.errors().to_string());
        out.push('}');
        out
    }

    fn latency_json(&self) -> String {
        let latency = &self.latency_ns;
        let columns = [
            ("min", latency.min()),
            ("mean", latency.mean()),
            ("p50", latency.percentile(50.0)),
            ("p90", latency.percentile(90.0)),
            ("p99", latency.percentile(99.0)),
            ("p999", latency.percentile(99.9)),
            ("max", latency.max()),
        ];
        object(columns.map(|(name, nanos)| (name.to_owned(), nanos / 1_000)))
    }
}

#[expect(clippy::cast_precision_loss, reason = "for people to read")]
fn millis(nanos: u64) -> f64 {
    nanos as f64 / 1e6
}

#[expect(clippy::cast_precision_loss, reason = "for people to read")]
fn per_second(count: u64, elapsed: Duration) -> f64 {
    if elapsed.is_zero() { 0.0 } else { count as f64 / elapsed.as_secs_f64() }
}

fn object(fields: impl IntoIterator<Item = (String, u64)>) -> String {
    let fields: Vec<String> =
        fields.into_iter().map(|(name, value)| format!("{}: {value}", quoted(&name))).collect();
    format!("{{{}}}", fields.join(", "))
}

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => out.extend(['\\', character]),
            control if control < ' ' => {
                let _ = write!(out, "\\u{:04x}", u32::from(control));
            }
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_result_is_one_json_object() {
        let mut stats = Stats::default();
        stats.opened();
        stats.answered(200, Duration::from_micros(10));
        stats.answered(503, Duration::from_micros(20));
        stats.failed(Failure::Timeout);
        assert_eq!(
            stats.json("unix:/a\"b", 1, Duration::from_secs(2)),
            "{\"target\": \"unix:/a\\\"b\", \"connections\": 1, \"connections_open_max\": 1, \"reconnects\": 0, \
             \"elapsed_s\": 2.000, \"requests\": 2, \"requests_per_s\": 1.0, \"received_bytes\": 0, \
             \"latency_us\": {\"min\": 10, \"mean\": 15, \"p50\": 10, \"p90\": 20, \"p99\": 20, \"p999\": 20, \
             \"max\": 20}, \"statuses\": {\"200\": 1, \"503\": 1}, \"errors\": {\"timeout\": 1, \"status\": 1}, \
             \"errors_total\": 2}"
        );
    }

    #[test]
    fn the_progress_line_counts_from_the_line_before() {
        let mut stats = Stats::default();
        (0..5).for_each(|_| stats.answered(200, Duration::from_millis(2)));
        assert_eq!(stats.progress(3, 2), "[   3 s] 0 open, 5 requests, 3/s, p99 2.00 ms, 0 errors");
    }
}
