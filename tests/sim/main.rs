//! The simulated world.
fn main() {}
