//! The floor of the field: what an answer costs on this machine with our driver and our parser, and no Python at all.
//!
//! A responder of one thread that answers every request with the same bytes, those of the hello application of the
//! benches under rgunicorn. `answer` makes them, `responder` has the connections, `runtime` those of another driver.
//! No server that runs an application on the same driver can be cheaper; how far one is above it is what the
//! application and WSGI cost.

mod answer;
mod responder;
mod runtime;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use rgunicorn_io::driver::{Choice, Config, Driver};
use rgunicorn_io::sys::listener::{ListenAddress, Listener, Options};
use rgunicorn_io::sys::process;

use answer::{Answers, HELLO};
use responder::Responder;

/// As long as Gunicorn's.
const BACKLOG: i32 = 2_048;
const BODY_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Answers every HTTP/1.1 request on 127.0.0.1 with the same bytes, on rgunicorn's driver and parser, without Python.
#[derive(Debug, Parser)]
#[command(name = "floor", version)]
struct FloorArgs {
    /// The port; 0 lets the kernel choose one, which the first line of stdout names.
    #[arg(short, long, default_value_t = 8_000)]
    port: u16,
    /// The driver that it waits with.
    #[arg(short, long, value_enum, default_value_t = DriverName::Uring)]
    driver: DriverName,
    /// Bytes of each answer's body; by default those of the hello application.
    #[arg(short, long, value_name = "BYTES", default_value_t = HELLO.len() as u64,
          value_parser = clap::value_parser!(u64).range(0..=BODY_BYTES_MAX))]
    body_bytes: u64,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum DriverName {
    /// `io_uring`.
    Uring,
    /// epoll.
    Epoll,
    /// That of tokio-uring, with our parser.
    TokioUring,
}

fn main() -> ExitCode {
    match serve(&FloorArgs::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "floor: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Serves until a signal ends the process.
fn serve(args: &FloorArgs) -> io::Result<()> {
    let body = usize::try_from(args.body_bytes).map_err(io::Error::other)?;
    let answers = Answers::new(body);
    let choice = match args.driver {
        DriverName::Uring => Choice::Uring,
        DriverName::Epoll => Choice::Epoll,
        DriverName::TokioUring => return runtime::serve(args.port, answers),
    };
    let (driver, _) = Driver::open(&Config { choice, ..Config::default() })?;
    let address = ListenAddress::Tcp { host: "127.0.0.1".to_owned(), port: args.port };
    let options = Options { backlog: BACKLOG, umask: 0, owner: None, reuse_port: false };
    let listener = Listener::open(&address, &options)?;
    writeln!(io::stdout(), "{}", listener.local())?;
    let descriptors = usize::try_from(process::descriptors_max()?).unwrap_or(usize::MAX);
    Responder::new(driver, listener, answers, descriptors).run()
}
