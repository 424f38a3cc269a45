//! Targets: no text panics, and what is accepted is shown in a form that means the same.

use wirerate_engine::target::Target;

/// Reads `bytes`, if they are a text.
pub fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match text.parse::<Target>() {
        Ok(target) => assert_eq!(target.to_string().parse::<Target>().expect("shown as it is typed"), target),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
