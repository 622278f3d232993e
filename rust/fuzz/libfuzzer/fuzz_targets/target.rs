//! One libFuzzer program for every target; the variable CITYID_FUZZ says which.
#![no_main]
use libfuzzer_sys::fuzz_target;
use std::sync::OnceLock;

static NAME: OnceLock<String> = OnceLock::new();

fuzz_target!(|data: &[u8]| {
    let name = NAME.get_or_init(|| std::env::var("CITYID_FUZZ").expect("CITYID_FUZZ names a target; `make fuzz` sets it"));
    assert!(cityid_fuzz::run(name, data), "there is no target {name}");
});
