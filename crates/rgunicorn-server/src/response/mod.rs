//! The response engine: what an application gives becomes the bytes of a response. It knows HTTP and the
//! pieces that a connection sends, and neither the connection nor Python, so it is the same for a loop, a
//! greenlet and a thread.
//!
//! - [`Response`]: how far one response is (head, framing, body bytes), and what is wrong with it.
//! - [`Pieces`]: its bytes on their way, small ones joined, large ones by reference.
//! - [`ErrorPage`]: the answer that the server gives by itself.

mod page;
mod pieces;
mod progress;

pub use page::ErrorPage;
pub use pieces::{BodyItem, Outgoing, Pieces};
pub use progress::{HeadContext, Response, server_name, set_server_name};
