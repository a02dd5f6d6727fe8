//! conf: see docs/architecture.md.
