//! `wirerate report`: a result as one HTML page with plots, or a table of it as CSV. The live page of `--web` is made by the same code.

mod contents;
mod csv;
pub mod document;
pub mod page;
mod plots;
mod view;
mod words;

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use wirerate_engine::Error;

use crate::args::report::Report;
use crate::output::{print, say};
use crate::{Result, Status};
use document::Document;
use page::Page;

/// Reads the result, and writes what is asked for.
pub fn run(args: &Report) -> Result<Status> {
    let document = Document::read(&args.result)?;
    let written = if args.csv {
        csv::table(&document, args.table.as_deref())?
    } else {
        page::whole(&page_of(&document), document.state)
    };
    document.notes.iter().for_each(|note| say(&format!("{}: {note}", document.source)));
    match output(args) {
        None => print(&written)?,
        Some(path) => {
            write(&path, written.as_bytes())?;
            if !args.quiet {
                say(&format!("written: {}", path.display()));
            }
        }
    }
    Ok(Status::Finished)
}

/// The page of a result.
pub fn page_of(document: &Document) -> Page {
    contents::page(document)
}

/// Names of the tables that `--csv` knows.
pub const TABLES: [&str; 8] = csv::TABLES;

/// Where it goes: to the file that was named; a page beside its result; a table, and what came by standard input, to standard output.
fn output(args: &Report) -> Option<PathBuf> {
    match &args.output {
        Some(path) if path == Path::new("-") => None,
        Some(path) => Some(path.clone()),
        None if args.csv || args.result == Path::new("-") => None,
        None => Some(args.result.with_extension("html")),
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    File::create(path).and_then(|mut file| file.write_all(bytes)).map_err(|e| {
        Error::usage(format!("{}: cannot be written", path.display()))
            .because(e)
            .fix("name a file that this user may write: --output FILE, or --output - for standard output")
    })
}
