//! Load generator of the benches.
fn main() {}
