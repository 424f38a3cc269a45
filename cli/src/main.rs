//! wirerate's command line: arguments to engine configuration, report to text.
#![forbid(unsafe_code)]

fn main() {}
