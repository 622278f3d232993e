//! Replays what fuzzers found, and what they begin with, on the stable compiler: `make test` runs every target on every kept input.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use cityid_fuzz::{run, seeds, TARGETS};
use std::collections::BTreeSet;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::path::{Path, PathBuf};

/// The corpus is to be read through in a review, not to be stored: a few small files a target.
const MOST_FILES: usize = 64;
const MOST_BYTES: u64 = 8_192;

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

fn kept(target: &str) -> Vec<(String, Vec<u8>)> {
    let Ok(entries) = std::fs::read_dir(corpus().join(target)) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|path| (path.display().to_string(), std::fs::read(&path).unwrap())).collect()
}

/// The targets that fail on an input, with its name.
fn failures<'t>(name: &'t str, inputs: &[(String, Vec<u8>)]) -> Vec<(&'t str, String)> {
    let fails = |bytes: &[u8]| catch_unwind(AssertUnwindSafe(|| assert!(run(name, bytes)))).is_err();
    inputs.iter().filter(|(_, bytes)| fails(bytes)).map(|(file, _)| (name, file.clone())).collect()
}

#[test]
fn every_kept_input_passes_its_target() {
    let failed: Vec<_> = TARGETS.iter().flat_map(|target| failures(target.name, &kept(target.name))).collect();
    assert!(failed.is_empty(), "{failed:?}");
}

#[test]
fn every_target_has_seeds_and_passes_on_them_cut_and_edited() {
    let mut failed = Vec::new();
    for target in TARGETS {
        let seeds = seeds(target);
        assert!(!seeds.is_empty(), "{}", target.name);
        let mut inputs: Vec<(String, Vec<u8>)> = vec![("nothing".to_owned(), Vec::new())];
        for (number, seed) in seeds.iter().enumerate() {
            inputs.push((format!("seed {number}"), seed.clone()));
            for place in (0..seed.len()).step_by(1 + seed.len() / 40) {
                let mut edited = seed.clone();
                edited[place] ^= 1 << (place % 8);
                inputs.push((format!("seed {number} edited at {place}"), edited));
                inputs.push((format!("seed {number} cut at {place}"), seed[..place].to_vec()));
            }
        }
        failed.extend(failures(target.name, &inputs));
    }
    assert!(failed.is_empty(), "{failed:?}");
}

#[test]
fn the_corpus_is_small_and_of_targets_that_exist() {
    let names: BTreeSet<String> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    assert_eq!(names.len(), TARGETS.len());
    for folder in std::fs::read_dir(corpus()).unwrap() {
        let folder = folder.unwrap();
        assert!(names.contains(&folder.file_name().into_string().unwrap()), "{folder:?} is of no target");
        let files: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).collect();
        assert!(!files.is_empty() && files.len() <= MOST_FILES, "{folder:?} has {} files", files.len());
        assert!(files.iter().all(|size| *size <= MOST_BYTES), "{folder:?} has a large file");
    }
}

#[test]
fn control_a_target_that_panics_would_be_named() {
    assert!(!run("no such target", b""));
    let quiet = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let failed = failures("no such target", &[("anything".to_owned(), Vec::new())]);
    std::panic::set_hook(quiet);
    assert_eq!(failed, [("no such target", "anything".to_owned())]);
}
