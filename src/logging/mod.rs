//! logging: see docs/architecture.md.
