//! What a user may type behind `wirerate report`, and how a run is shown in a browser while it goes on.

use std::path::PathBuf;

use clap::Args;
use clap::builder::PossibleValuesParser;

/// `wirerate report`.
#[derive(Debug, Args)]
pub struct Report {
    /// A result: what --json, --json-lines or --json-file of any command wrote; - is standard input
    #[arg(value_name = "RESULT")]
    pub result: PathBuf,

    /// Write to this file; - is standard output. Default: a page goes beside its result, as RESULT with the ending .html, a table to standard output
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// Write a table as CSV instead of the page: RFC 4180, a line of titles first, units in the titles
    #[arg(long)]
    pub csv: bool,

    /// Which table. Default: the first of these that the result has
    #[arg(long, value_name = "NAME", requires = "csv", value_parser = PossibleValuesParser::new(crate::report::TABLES))]
    pub table: Option<String>,

    /// Do not say on standard error where it was written
    #[arg(short, long)]
    pub quiet: bool,
}
