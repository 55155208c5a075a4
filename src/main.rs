//! The `peftbench` command.
fn main() {}
