//! What fuzzing kept: each input of `engine/fuzz/corpus` through the function that it was found with.
#![forbid(unsafe_code)]

use std::fs;
use std::path::Path;

#[path = "../fuzz/src/lib.rs"]
mod fuzz;

#[test]
fn every_kept_input_holds() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for (name, check) in fuzz::TARGETS {
        let mut count = 0;
        let entries = fs::read_dir(corpus.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
        for entry in entries {
            let path = entry.expect("a readable directory").path();
            let input = fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            // The name stands before the panic's message, should there be one.
            println!("{}", path.display());
            check(&input);
            count += 1;
        }
        assert!(count > 0, "{name}: nothing is kept");
    }
}

#[test]
fn every_target_is_run_and_every_corpus_has_a_target() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let names = |directory: &str| {
        let mut names: Vec<String> = fs::read_dir(fuzz.join(directory))
            .expect("it is in the repository")
            .map(|entry| {
                entry.expect("a readable directory").path().file_stem().unwrap().to_string_lossy().into()
            })
            .collect();
        names.sort();
        names
    };
    let targets: Vec<&str> = fuzz::TARGETS.iter().map(|(name, _)| *name).collect();
    assert_eq!(names("fuzz_targets"), targets);
    assert_eq!(names("corpus"), targets);
}
