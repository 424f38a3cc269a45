//! Targets: no text panics, and what is accepted is shown in a form that means the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wirerate_engine::target::Target;

fuzz_target!(|text: &str| {
    if let Ok(target) = text.parse::<Target>() {
        assert_eq!(target.to_string().parse::<Target>().expect("shown as it is typed"), target);
    }
});
