//! Load generator of the benches: keep-alive HTTP/1.1 connections on one thread and one io_uring.
//!
//! `args` is the command line, `client` the connections, `response` finds the end of an answer, `histogram` and
//! `report` say what happened. It is its own program with its own runtime (tokio-uring): the server cannot use one,
//! because an async runtime keeps pointers into its own stack and greenlets move stacks.

mod args;
mod client;
mod histogram;
mod report;
mod response;

use std::io::Write;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use clap::Parser;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::time::{sleep, timeout_at};

use args::{Args, Target};
use client::Run;

/// Submissions are flushed when the thread parks; a burst of connections fits.
const SUBMISSIONS: u32 = 1_024;
/// Files besides the connections: standard streams, ring, epoll, event descriptors.
const OTHER_FILES: u64 = 32;
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let args = Args::parse();
    if let Err(message) = raise_file_limit(args.connections) {
        return fail(&message);
    }
    let runtime = match ring(args.connections) {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("io_uring: {error}")),
    };
    let errors = runtime.block_on(load(args));
    // The kernel closes what is open; waiting for the end of every read in flight would tell nothing.
    std::process::exit(i32::from(errors > 0));
}

fn fail(message: &str) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "loadgen: {message}");
    ExitCode::from(2)
}

/// Raises the limit of open files. Every connection is one; the soft limit is often 1,024.
fn raise_file_limit(connections: u32) -> Result<(), String> {
    let needed = u64::from(connections) + OTHER_FILES;
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(|error| error.to_string())?;
    if needed > hard {
        return Err(format!("{connections} connections need {needed} open files, but the limit is {hard}"));
    }
    if needed > soft {
        setrlimit(Resource::RLIMIT_NOFILE, needed, hard).map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// Opens a ring whose completion queue holds one completion of every connection.
fn ring(connections: u32) -> std::io::Result<tokio_uring::Runtime> {
    let mut ring = tokio_uring::uring_builder();
    ring.setup_cqsize((connections * 2).clamp(SUBMISSIONS * 2, 1 << 16));
    tokio_uring::Runtime::new(tokio_uring::builder().entries(SUBMISSIONS).uring_builder(&ring))
}

/// Makes the load and prints the result; returns the number of errors.
async fn load(args: Args) -> u64 {
    let run = Run::new(args.clone());
    let tasks: Vec<_> = (0..args.connections)
        .map(|index| tokio_uring::spawn(client::connection(Rc::clone(&run), index)))
        .collect();
    let progress = (!args.quiet).then(|| tokio_uring::spawn(progress(Rc::clone(&run))));
    let deadline = run.deadline().into();
    for task in tasks {
        let handle = task.abort_handle();
        if timeout_at(deadline, task).await.is_err() {
            handle.abort();
        }
    }
    let elapsed = run.elapsed();
    if let Some(progress) = progress {
        progress.abort();
    }
    let stats = run.stats.borrow();
    let json = stats.json(&name(&args.target), args.connections, elapsed);
    // A reader that has gone does not want the result.
    let _ = writeln!(std::io::stdout(), "{json}");
    stats.errors()
}

async fn progress(run: Rc<Run>) {
    let mut before = 0;
    for second in 1.. {
        sleep(PROGRESS_EVERY).await;
        let stats = run.stats.borrow();
        let _ = writeln!(std::io::stderr(), "{}", stats.progress(second, before));
        before = stats.latency_ns.count();
    }
}

fn name(target: &Target) -> String {
    match target {
        Target::Tcp(address, path) => format!("http://{address}{path}"),
        Target::Unix(path) => format!("unix:{}", path.display()),
    }
}
