//! What users type as values of options: no text panics, and what is accepted is shown in a form that means the same.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use wirerate_engine::host::cpu::{format_cpu_list, parse_cpu_list, parse_list};
use wirerate_engine::host::sched::Policy;
use wirerate_engine::observe::FormatChoice;
use wirerate_engine::profile::rate::Rate;
use wirerate_engine::profile::segments::Segments;
use wirerate_engine::profile::size::SizeList;

/// Reads `bytes`, if they are a text, as each of them.
pub fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    shown_as_typed::<Rate>(text);
    shown_as_typed::<Segments>(text);
    shown_as_typed::<SizeList>(text);
    shown_as_typed::<Policy>(text);
    if let Ok(format) = text.parse::<FormatChoice>() {
        assert_eq!(format.name(), text);
    }
    let _ = parse_list(text, "queue", 63);
    if let Ok(cpus) = parse_cpu_list(text) {
        assert!(cpus.is_sorted_by(|a, b| a < b));
        assert_eq!(parse_cpu_list(&format_cpu_list(&cpus)).expect("shown as it is typed"), cpus);
    }
}

fn shown_as_typed<T: FromStr<Err = wirerate_engine::Error> + Display + Debug + PartialEq>(text: &str) {
    match text.parse::<T>() {
        Ok(value) => {
            let shown = value.to_string();
            assert_eq!(shown.parse::<T>().expect("shown as it is typed"), value, "{shown}");
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
