//! The rules of the house that no compiler checks, as functions from files to findings.
//!
//! `tests/house.rs` holds the real tree against them; here each rule has a test over a bad sample, which proves that it
//! would catch what it is there for. What depends on what between crates is no rule of this kind: cargo refuses it.
//! Neither Python nor a build script is needed.

pub mod docs;
pub mod floors;
pub mod lexer;
pub mod limits;
pub mod packages;
pub mod places;
pub mod prose;
pub mod text;
pub mod tree;
