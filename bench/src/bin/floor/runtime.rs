//! The connections of an async runtime over `io_uring`, with the same answers: a server of another design would be
//! built on it, and what our driver saves, or costs, is seen beside it.

use std::cell::RefCell;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::SystemTime;

use rgunicorn_http::{ParseEvent, Policy, RequestParser};
use tokio_uring::net::{TcpListener, TcpStream};

use super::answer::Answers;

/// Bytes that a connection receives at once, as in rgunicorn.
const READ_BYTES: usize = 16 * 1024;

/// Serves until a signal ends the process.
pub(crate) fn serve(port: u16, answers: Answers) -> io::Result<()> {
    tokio_uring::start(async {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], port)))?;
        writeln!(io::stdout(), "http://{}", listener.local_addr()?)?;
        let answers = Rc::new(RefCell::new(answers));
        loop {
            let (stream, _) = listener.accept().await?;
            let answers = Rc::clone(&answers);
            tokio_uring::spawn(async move {
                // A client that leaves is no matter.
                let _ = connection(stream, &answers).await;
            });
        }
    })
}

/// Answers the requests of one connection up to its end.
async fn connection(stream: TcpStream, answers: &RefCell<Answers>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (policy, mut parser) = (Policy::default(), RequestParser::new());
    let (mut buffer, mut keep_alive, mut keeps) = (vec![0; READ_BYTES], true, true);
    while keep_alive {
        let received;
        (received, buffer) = stream.read(buffer).await;
        let received = received?;
        if received == 0 {
            return Ok(());
        }
        let mut out = Vec::new();
        let mut input = &buffer[..received];
        let second = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |elapsed| elapsed.as_secs());
        answers.borrow_mut().tick(second);
        while keep_alive {
            match parser.advance(&policy, false, &mut input).map_err(io::Error::other)? {
                ParseEvent::NeedMore => break,
                ParseEvent::Data(_) => {}
                ParseEvent::Head(head) => keeps = head.keep_alive(),
                ParseEvent::End => {
                    keep_alive = keeps;
                    let answers = answers.borrow();
                    out.extend_from_slice(answers.head(keep_alive));
                    out.extend_from_slice(&answers.apart().unwrap_or_default());
                }
            }
        }
        if !out.is_empty() {
            stream.write_all(out).await.0?;
        }
    }
    Ok(())
}
