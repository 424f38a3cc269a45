//! Profiles of NIC models: options, and what is expected of the ports, in a file of YAML.
//!
//! ```yaml
//! about: Intel X520, two ports, back to back
//! options:            # any option of the command, without its dashes; what is typed overrides it
//!   frame-size: [64, 512, 1518]
//!   expect-throughput: 99%
//! health:             # what is expected of both ports, and how far counters may move
//!   speed: 10G
//! ```

use std::collections::BTreeMap;
use std::path::Path;

use clap::parser::ValueSource;
use clap::{ArgMatches, Command as Clap, CommandFactory, Parser};
use serde_json::Value;
use wirerate_engine::Error;
use wirerate_engine::host::health::Limits;

use crate::args::qualify::Qualify;
use crate::args::{Cli, Command};

/// Largest file.
const LONGEST: u64 = 1 << 20;

/// The command's name.
const COMMAND: &str = "qualify";

/// What may stand at the top.
const SECTIONS: [&str; 3] = ["about", "health", "options"];

/// What may stand in `health`.
const HEALTH: [&str; 12] = [
    "allow",
    "severity",
    "speed",
    "duplex",
    "autonegotiation",
    "min_rx_ring",
    "min_tx_ring",
    "max_celsius",
    "min_pcie_width",
    "min_pcie_gtps",
    "max_queue_share",
    "offloads",
];

/// What the command line and a file come to.
#[derive(Debug)]
pub struct Read {
    /// Options of both.
    pub arguments: Qualify,
    /// What is expected of the ports.
    pub limits: Limits,
}

/// Reads the file, and the command line again with it.
///
/// # Errors
/// Usage, with what is wrong in the file.
pub fn read(path: &Path) -> Result<Read, Error> {
    let named =
        |error: Error| Error { what: format!("--profile {}: {}", path.display(), error.what), ..error };
    let unreadable =
        |e| Error::usage("cannot be read").because(e).fix("name a file of YAML, as docs/profiles has them");
    let length = std::fs::metadata(path).map_err(unreadable).map_err(named)?.len();
    if length > LONGEST {
        return Err(named(Error::usage(format!("{length} bytes are no profile")).fix("1 MiB at most")));
    }
    let text = std::fs::read_to_string(path).map_err(unreadable).map_err(named)?;
    let typed: Vec<String> = std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    together(&text, &typed).map_err(named)
}

/// What `text` and the words of a command line come to.
fn together(text: &str, typed: &[String]) -> Result<Read, Error> {
    let file = parse(text)?;
    let definition = Cli::command();
    let command = definition.find_subcommand(COMMAND).expect("the command is defined");
    let matches = Cli::command().try_get_matches_from(typed).map_err(|e| Error::usage(e.to_string()))?;
    let given = matches.subcommand_matches(COMMAND);
    let mut words = typed.to_vec();
    for (name, value) in &file.options {
        words.extend(option(command, given, name, value)?);
    }
    let cli = Cli::try_parse_from(&words).map_err(|e| {
        // The rest of what clap says is about the usage of the command line.
        let said = e.to_string();
        let first = said.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
        Error::usage(first).fix(format!("`wirerate {COMMAND} --help` tells what each option takes"))
    })?;
    let Command::Qualify(arguments) = cli.command else {
        return Err(Error::usage("it is not for this command"));
    };
    Ok(Read { arguments: *arguments, limits: file.limits })
}

/// A file's options and limits.
#[derive(Debug, Default)]
struct Profile {
    options: BTreeMap<String, Value>,
    limits: Limits,
}

fn parse(text: &str) -> Result<Profile, Error> {
    let wrong = |e: serde_saphyr::Error| {
        let said = e.to_string();
        Error::usage(format!("not YAML that is understood: {}", said.lines().next().unwrap_or_default()))
            .fix("write keys and values, as docs/profiles has them")
    };
    let top: BTreeMap<String, Value> = serde_saphyr::from_str(text).map_err(wrong)?;
    known("key", top.keys(), &SECTIONS)?;
    let map = |name: &str| match top.get(name) {
        None | Some(Value::Null) => Ok(serde_json::Map::new()),
        Some(Value::Object(map)) => Ok(map.clone()),
        Some(_) => {
            Err(Error::usage(format!("{name}: keys and values are needed")).fix("indent them below it"))
        }
    };
    let health = map("health")?;
    known("health", health.keys(), &HEALTH)?;
    let limits: Limits = serde_json::from_value(Value::Object(health))
        .map_err(|e| Error::usage(format!("health: {e}")).fix("docs/qualify.md tells what each takes"))?;
    limits.check()?;
    Ok(Profile { options: map("options")?.into_iter().collect(), limits })
}

/// Refuses keys that are not known, and names the nearest.
fn known<'a>(what: &str, keys: impl Iterator<Item = &'a String>, names: &[&str]) -> Result<(), Error> {
    for key in keys {
        if !names.contains(&key.as_str()) {
            return Err(unknown(what, key, names));
        }
    }
    Ok(())
}

fn unknown(what: &str, key: &str, names: &[&str]) -> Error {
    let error = Error::usage(format!("{what}: there is no \"{key}\""));
    let near = names
        .iter()
        .map(|name| (strsim::jaro_winkler(key, name), *name))
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .filter(|(nearness, _)| *nearness > 0.7);
    match near {
        Some((_, name)) => error.fix(format!("did you mean {name}?")),
        None => error.fix(format!("one of {}", names.join(", "))),
    }
}

/// The words of an option of the file; none where it was typed, too.
fn option(
    command: &Clap,
    given: Option<&ArgMatches>,
    name: &str,
    value: &Value,
) -> Result<Vec<String>, Error> {
    let all: Vec<&clap::Arg> = command.get_arguments().filter(|arg| arg.get_long().is_some()).collect();
    let is_it = |arg: &&&clap::Arg| {
        arg.get_long() == Some(name) || arg.get_all_aliases().unwrap_or_default().contains(&name)
    };
    let Some(arg) = all.iter().find(is_it).filter(|_| !matches!(name, "profile" | "help")) else {
        let names: Vec<&str> = all
            .iter()
            .filter_map(|arg| arg.get_long())
            .filter(|long| !matches!(*long, "profile" | "help"))
            .collect();
        return Err(unknown("options", name, &names));
    };
    if given.is_some_and(|given| given.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine))
    {
        return Ok(Vec::new());
    }
    let wrong = || {
        Err(Error::usage(format!("options: {name}: {value} is no value of it"))
            .fix("write a text, a number, a list of these, or true for an option without a value"))
    };
    let plain = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    let flag = !arg.get_action().takes_values();
    match value {
        Value::Bool(on) if flag => Ok(if *on { vec![format!("--{name}")] } else { Vec::new() }),
        // YAML reads on and off as truths.
        Value::Bool(on) => Ok(vec![format!("--{name}={}", if *on { "on" } else { "off" })]),
        _ if flag => wrong(),
        Value::Array(list) if arg.get_value_delimiter().is_some() => {
            match list.iter().map(plain).collect::<Option<Vec<_>>>() {
                Some(list) => Ok(vec![format!("--{name}={}", list.join(","))]),
                None => wrong(),
            }
        }
        Value::Array(list) => match list.iter().map(plain).collect::<Option<Vec<_>>>() {
            Some(list) => Ok(list.into_iter().map(|one| format!("--{name}={one}")).collect()),
            None => wrong(),
        },
        _ => plain(value).map_or_else(wrong, |text| Ok(vec![format!("--{name}={text}")])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, typed: &str) -> Result<Read, Error> {
        let words = format!("wirerate qualify --tx a --rx b {typed}");
        together(text, &words.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    const FILE: &str = "about: a card\noptions:\n  frame-size: [64, imix]\n  imix: ['7:64,1:1518', aaafg]\n  retries: 2\n  quick: true\n  \
                        kernel-drops: off\n  tests: throughput\nhealth:\n  speed: 10G\n  allow: {rx_dropped: 3}\n";

    #[test]
    fn a_file_gives_options_and_what_is_typed_overrides_it() {
        let of_file = read(FILE, "").unwrap();
        let names = |read: &Read| {
            let args = &read.arguments;
            args.frame_size
                .iter()
                .map(|s| &s.0.name)
                .chain(args.imix.iter().map(|s| &s.name))
                .cloned()
                .collect::<Vec<_>>()
        };
        assert_eq!(names(&of_file), ["64", "imix", "7:64,1:1518", "aaafg"]);
        assert_eq!((of_file.arguments.retries, of_file.arguments.quick), (2, true));
        assert_eq!(of_file.limits.allowed("rx_dropped"), 3);
        assert_eq!(of_file.limits.speed.unwrap().0, 10_000_000_000);
        let typed = read(FILE, "--frame-size 128 --retries 0 --test latency").unwrap();
        assert_eq!(names(&typed), ["128", "7:64,1:1518", "aaafg"]);
        assert_eq!((typed.arguments.retries, typed.arguments.tests.len()), (0, 1));
    }

    #[test]
    fn what_is_not_known_is_refused_with_what_is_near() {
        for (text, near) in [
            ("option:\n  rate: 5pps\n", "options"),
            ("options:\n  frame-sise: 64\n", "frame-size"),
            ("options:\n  retry: 2\n", "retries"),
            ("options:\n  zzz: x\n", "one of"),
            ("options:\n  profile: x\n", ""),
            ("health:\n  min_rx_rings: 64\n", "min_rx_ring"),
            ("health:\n  sped: 10G\n", "speed"),
        ] {
            let error = read(text, "").unwrap_err();
            assert!(error.fix.as_ref().is_some_and(|fix| fix.contains(near)), "{text}: {error}");
        }
        for text in [
            "options: 5",
            "options:\n  retries: many\n",
            "options:\n  retries: {a: 1}\n",
            "options:\n  quick: 5\n",
            "health:\n  speed: fast\n",
            "health:\n  max_queue_share: 7\n",
            "- 1\n",
            "a: b: c",
        ] {
            let Err(error) = read(text, "") else { panic!("{text:?} is read") };
            assert_eq!(error.kind, wirerate_engine::Kind::Usage, "{text}");
        }
    }

    #[test]
    fn every_name_of_health_is_one_of_the_engine_s() {
        for name in HEALTH {
            let error = serde_json::from_str::<Limits>(&format!("{{\"{name}\": [[]]}}")).unwrap_err();
            assert!(!error.to_string().contains("unknown field"), "{name}");
        }
    }

    #[test]
    fn the_files_in_docs_are_read() {
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/profiles");
        let mut files = 0;
        for entry in std::fs::read_dir(directory).unwrap() {
            let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
            read(&text, "").unwrap();
            files += 1;
        }
        assert!(files > 0);
    }
}
