//! Writes the seeds of a target into a folder, for libFuzzer to begin with: `cargo run --example seeds -- TARGET FOLDER`. Without
//! arguments it names the targets.
#![forbid(unsafe_code)]
use cityid_core::hash::{hex, sha256};
use cityid_fuzz::{seeds, TARGETS};
use std::path::PathBuf;

fn main() -> std::io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(name), Some(folder)) = (arguments.next(), arguments.next().map(PathBuf::from)) else {
        TARGETS.iter().for_each(|target| println!("{}", target.name));
        return Ok(());
    };
    let Some(target) = TARGETS.iter().find(|target| target.name == name) else {
        return Err(std::io::Error::other(format!("there is no target {name}; run this without arguments for their names")));
    };
    std::fs::create_dir_all(&folder)?;
    for seed in seeds(target) {
        std::fs::write(folder.join(&hex(&sha256(&seed))[..16]), seed)?;
    }
    Ok(())
}
