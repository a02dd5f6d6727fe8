//! Tests of the crate from the outside: what a worker can see and nothing else.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "tests: a panic is the finding")]

mod body;
mod corpus;
mod head;
mod properties;
mod repeat;
mod response;
mod speed;
mod support;
