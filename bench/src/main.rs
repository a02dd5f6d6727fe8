//! Load generator of the benches: HTTP/1.1 over keep-alive connections, on one thread.
//!
//! `args` is the command line, `run` has the phases, `crowd` the connections and `connection` each of them; `socket`
//! and `wait` are the kernel, `schedule` says when requests of an open loop are due, `response` finds the end of an
//! answer, `histogram` and `report` say what happened. Its sockets are waited for by epoll and not by rgunicorn's
//! driver: what measures a server shares no code with it.

mod args;
mod connection;
mod crowd;
mod histogram;
mod report;
mod response;
mod run;
mod schedule;
mod socket;
mod wait;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use args::{Args, Target};
use run::Run;

/// Files besides the connections: standard streams, epoll.
const OTHER_FILES: u64 = 32;

fn main() -> ExitCode {
    let args = Args::parse();
    if args.files() == 0 {
        return fail("neither connections nor idle ones: nothing to do");
    }
    if let Err(message) = raise_file_limit(args.files()) {
        return fail(&message);
    }
    match Run::new(args).and_then(|mut run| run.make().map(|()| run)) {
        Ok(run) => ExitCode::from(u8::from(result(&run) > 0)),
        Err(error) => fail(&error.to_string()),
    }
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
        let holds = hard.saturating_sub(OTHER_FILES);
        return Err(format!(
            "{connections} connections need {needed} open files, and one process may have {hard} (ulimit -Hn): it holds \
             {holds} connections. More processes hold more: the others with -c 0 --idle N --source M"
        ));
    }
    if needed > soft {
        setrlimit(Resource::RLIMIT_NOFILE, needed, hard).map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// Prints the result; returns the number of errors.
fn result(run: &Run) -> u64 {
    let (args, stats) = (&run.crowd.args, &run.crowd.stats);
    let json = stats.json(&name(&args.target), args, run.gathering, run.elapsed);
    // A reader that has gone does not want the result.
    let _ = writeln!(std::io::stdout(), "{json}");
    stats.errors()
}

fn name(target: &Target) -> String {
    match target {
        Target::Tcp(address, path) => format!("http://{address}{path}"),
        Target::Unix(path) => format!("unix:{}", path.display()),
    }
}
