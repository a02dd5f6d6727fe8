//! How the extension module is linked.

/// Begins its code on a page of its own, in the file as well. Profilers that look for the functions of a mapped file
/// (`py-spy dump --native`) map its segments by whole pages, and the default linker shares a page between two of them.
fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-link-arg-cdylib=-Wl,-z,separate-code");
}
