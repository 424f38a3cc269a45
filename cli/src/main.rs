//! wirerate's command line: arguments to engine configuration, report to text.
#![forbid(unsafe_code)]

#[allow(dead_code, reason = "the command that calls it is not wired up yet")]
mod doctor;

fn main() {}
