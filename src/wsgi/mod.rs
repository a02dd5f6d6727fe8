//! wsgi: see docs/architecture.md.
