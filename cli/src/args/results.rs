//! How a method gives its results: replicate, qualify and compare.

use std::path::PathBuf;

use clap::Args;

/// Where the report goes, and in which form.
#[derive(Debug, Args)]
pub struct Results {
    /// Print the report as one JSON object
    #[arg(long, conflicts_with = "json_lines")]
    pub json: bool,

    /// Print a JSON object a line: ready, trials and what they come to, warning and report events
    #[arg(long)]
    pub json_lines: bool,

    /// Write the report as one JSON object to this file, too
    #[arg(long, value_name = "FILE")]
    pub json_file: Option<PathBuf>,

    /// Write the result to this file instead of standard output
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// No progress on standard error
    #[arg(short, long)]
    pub quiet: bool,

    #[command(flatten)]
    pub web: super::report::Web,
}
