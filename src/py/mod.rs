//! py: see docs/architecture.md.
