//! The result of a run: counters while it runs, a progress line a second, one JSON object at the end.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use crate::args::Args;
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
    /// Latencies of all answered requests, in nanoseconds. In an open loop also the time so far of those that were due
    /// and not answered.
    pub latency_ns: Histogram,
    /// By how much requests of an open loop were sent late though a connection was free, in nanoseconds: the fault of
    /// this program, or of its processor.
    pub lateness_ns: Histogram,
    /// Requests of an open loop that were due.
    pub due: u64,
    /// Requests of an open loop that were due and not answered by the end.
    pub unanswered: u64,
    /// Idle connections that the server has closed.
    pub idle_lost: u64,
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
            self.failed(Failure::Status, 1);
        }
    }

    /// Counts failures of one kind; tells whether they are the first ones.
    pub(crate) fn failed(&mut self, failure: Failure, times: u64) -> bool {
        let count = self.failures.entry(failure).or_default();
        *count += times;
        *count == times
    }

    /// Counts a request of an open loop that has waited for so long and has no answer.
    pub(crate) fn unanswered(&mut self, waited: Duration) {
        self.latency_ns.record(u64::try_from(waited.as_nanos()).unwrap_or(u64::MAX));
        self.unanswered += 1;
    }

    /// Counts a connection that has opened, perhaps in place of one that had ended.
    pub(crate) fn opened(&mut self, again: bool) {
        self.open += 1;
        self.open_max = self.open_max.max(self.open);
        self.reconnects += u64::from(again);
    }

    /// Returns the number of answered requests so far.
    pub(crate) fn requests(&self) -> u64 {
        self.latency_ns.count() - self.unanswered
    }

    /// Returns the number of failures so far.
    pub(crate) fn errors(&self) -> u64 {
        self.failures.values().sum()
    }

    /// Renders the line for second `second`; `before` is the number of requests answered up to the line before.
    pub(crate) fn progress(&self, second: u64, before: u64) -> String {
        let done = self.requests();
        format!(
            "[{second:4} s] {} open, {done} requests, {}/s, p99 {:.2} ms, {} errors",
            self.open,
            done - before,
            millis(self.latency_ns.percentile(99.0)),
            self.errors()
        )
    }

    /// Renders the result as one JSON object. Latencies are in microseconds.
    pub(crate) fn json(&self, target: &str, args: &Args, gathering: Duration, elapsed: Duration) -> String {
        let requests = self.requests();
        let mut out = String::from("{");
        let mut field = |name: &str, value: String| {
            let comma = if out.len() > 1 { ", " } else { "" };
            // Writing to a String cannot fail.
            let _ = write!(out, "{comma}{}: {value}", quoted(name));
        };
        field("target", quoted(target));
        field("connections", args.connections.to_string());
        field("connections_open_max", self.open_max.to_string());
        field("idle", args.idle.to_string());
        field("idle_lost", self.idle_lost.to_string());
        field("pipeline", args.pipeline.to_string());
        field("reconnects", self.reconnects.to_string());
        field("gathering_s", format!("{:.3}", gathering.as_secs_f64()));
        field("elapsed_s", format!("{:.3}", elapsed.as_secs_f64()));
        field("requests", requests.to_string());
        field("requests_per_s", format!("{:.1}", per_second(requests, elapsed)));
        field("received_bytes", self.received_bytes.to_string());
        field("latency_us", percentiles(&self.latency_ns));
        if let Some(rate) = args.rate {
            field("rate", rate.to_string());
            field("due", self.due.to_string());
            field("unanswered", self.unanswered.to_string());
            field("lateness_us", percentiles(&self.lateness_ns));
        }
        field("statuses", object(self.statuses.iter().map(|(status, count)| (status.to_string(), *count))));
        field("errors", object(self.failures.iter().map(|(kind, count)| (kind.name().to_owned(), *count))));
        field("errors_total", self.errors().to_string());
        out.push('}');
        out
    }
}

/// Renders a histogram of nanoseconds, in microseconds.
fn percentiles(times: &Histogram) -> String {
    let columns = [
        ("min", times.min()),
        ("mean", times.mean()),
        ("p50", times.percentile(50.0)),
        ("p75", times.percentile(75.0)),
        ("p90", times.percentile(90.0)),
        ("p95", times.percentile(95.0)),
        ("p99", times.percentile(99.0)),
        ("p999", times.percentile(99.9)),
        ("p9999", times.percentile(99.99)),
        ("max", times.max()),
    ];
    object(columns.map(|(name, nanos)| (name.to_owned(), nanos / 1_000)))
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
    use clap::Parser;

    use super::*;

    #[test]
    fn the_result_is_one_json_object() {
        let mut stats = Stats::default();
        stats.opened(false);
        stats.answered(200, Duration::from_micros(10));
        stats.answered(503, Duration::from_micros(20));
        stats.failed(Failure::Timeout, 1);
        let args = Args::parse_from(["loadgen", "unix:/a", "-c", "1"]);
        assert_eq!(
            stats.json("unix:/a\"b", &args, Duration::ZERO, Duration::from_secs(2)),
            "{\"target\": \"unix:/a\\\"b\", \"connections\": 1, \"connections_open_max\": 1, \"idle\": 0, \"idle_lost\": 0, \
             \"pipeline\": 1, \"reconnects\": 0, \"gathering_s\": 0.000, \"elapsed_s\": 2.000, \"requests\": 2, \
             \"requests_per_s\": 1.0, \"received_bytes\": 0, \"latency_us\": {\"min\": 10, \"mean\": 15, \"p50\": 10, \
             \"p75\": 20, \"p90\": 20, \"p95\": 20, \"p99\": 20, \"p999\": 20, \"p9999\": 20, \"max\": 20}, \
             \"statuses\": {\"200\": 1, \"503\": 1}, \"errors\": {\"timeout\": 1, \"status\": 1}, \"errors_total\": 2}"
        );
    }

    #[test]
    fn what_was_due_and_not_answered_is_in_the_percentiles_of_an_open_loop() {
        let mut stats = Stats { due: 4, ..Stats::default() };
        (0..3).for_each(|_| stats.answered(200, Duration::from_micros(10)));
        stats.unanswered(Duration::from_secs(1));
        let args = Args::parse_from(["loadgen", "unix:/a", "--rate", "4"]);
        let json = stats.json("unix:/a", &args, Duration::ZERO, Duration::from_secs(1));
        for part in ["\"requests\": 3,", "\"max\": 1000000}, \"rate\": 4, \"due\": 4, \"unanswered\": 1,"] {
            assert!(json.contains(part), "{part} is not in {json}");
        }
    }

    #[test]
    fn the_progress_line_counts_from_the_line_before() {
        let mut stats = Stats::default();
        (0..5).for_each(|_| stats.answered(200, Duration::from_millis(2)));
        assert_eq!(stats.progress(3, 2), "[   3 s] 0 open, 5 requests, 3/s, p99 2.00 ms, 0 errors");
    }
}
