//! arbiter: see docs/architecture.md.
