//! The embedded eBPF object is what its sources say, as far as can be told without eBPF tools: both are those that
//! `scripts/ebpf build` recorded. `scripts/ebpf check` tells the rest, by a rebuild.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

const FIX: &str = "run scripts/ebpf build and commit ebpf/object";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The files below `directory`, the build's own output left out.
fn files_below(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            files.push(path);
        } else if !path.ends_with("ebpf/programs/target") {
            files_below(&path, files);
        }
    }
}

fn hash(path: &Path) -> String {
    Sha256::digest(fs::read(path).unwrap()).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_object_belongs_to_the_sources() {
    let root = root();
    let mut files = vec![
        root.join("ebpf/object/wirerate.bpf.o"),
        root.join("rust-toolchain.toml"),
        root.join("scripts/ebpf"),
    ];
    files_below(&root.join("ebpf/programs"), &mut files);
    files_below(&root.join("ebpf/types"), &mut files);
    let found: BTreeMap<String, String> = files
        .iter()
        .map(|file| (file.strip_prefix(&root).unwrap().to_str().unwrap().to_owned(), hash(file)))
        .collect();

    let record = fs::read_to_string(root.join("ebpf/object/SOURCES.sha256")).unwrap();
    let recorded: BTreeMap<String, String> = record
        .lines()
        .map(|line| {
            let (hash, file) = line.split_once("  ").unwrap();
            (file.to_owned(), hash.to_owned())
        })
        .collect();

    for (file, hash) in &found {
        match recorded.get(file) {
            Some(then) => assert_eq!(then, hash, "{file} changed since the eBPF object was built: {FIX}"),
            None => panic!("{file} is new since the eBPF object was built: {FIX}"),
        }
    }
    for file in recorded.keys() {
        assert!(found.contains_key(file), "{file} is gone since the eBPF object was built: {FIX}");
    }
}
