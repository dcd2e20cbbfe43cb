//! fdtrace's own build, test and demonstration commands.

fn main() {}
