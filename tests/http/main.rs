//! Tests of floor 0 `http`, from the outside: what a worker can see and nothing else.

mod body;
mod corpus;
mod head;
mod properties;
mod response;
mod support;
