//! What a user may type behind `wirerate report`, and how a run is shown in a browser while it goes on.

use std::net::{Ipv4Addr, SocketAddr};
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

/// How a run is shown in a browser while it goes on.
#[derive(Debug, Clone, Args)]
pub struct Web {
    /// Show the run in a browser while it goes on, its report when it has ended, and its figures for Prometheus at /metrics: 8080 or :8080 is port 8080 of this
    /// host alone (127.0.0.1), 0 any free port. An address that others reach, as 192.0.2.1:8080, has to be written out: nobody is asked who he is
    #[arg(long, value_name = "[ADDR:]PORT", value_parser = parse_web)]
    pub web: Option<SocketAddr>,

    /// Go on showing the report when the run has ended, until Ctrl-C
    #[arg(long, requires = "web")]
    pub web_keep: bool,
}

fn parse_web(text: &str) -> Result<SocketAddr, String> {
    let port = text.strip_prefix("localhost:").or_else(|| text.strip_prefix(':')).unwrap_or(text);
    match port.parse::<u16>() {
        Ok(port) => Ok((Ipv4Addr::LOCALHOST, port).into()),
        Err(_) => text.parse().map_err(|_| {
            "write a port, as 8080, or an address with a port, as 192.0.2.1:8080 or [2001:db8::1]:8080"
                .to_owned()
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_alone_is_of_this_host_alone() {
        for (text, address) in [
            ("8080", "127.0.0.1:8080"),
            (":8080", "127.0.0.1:8080"),
            ("localhost:0", "127.0.0.1:0"),
            ("0.0.0.0:80", "0.0.0.0:80"),
            ("[::1]:80", "[::1]:80"),
        ] {
            assert_eq!(parse_web(text), Ok(address.parse().unwrap()), "{text}");
        }
        for text in ["", ":", "x", "65536", "192.0.2.1", "host:80", "-1"] {
            assert!(parse_web(text).is_err(), "{text}");
        }
    }
}
