//! cityid-core: everything of cityid that must give the same answer on every machine.
//!
//! Codes, canonical encoding, hashes, signatures, the log, the state map, the ledger, the answer and its verifier.
//! Rules of this crate: no unsafe code, no I/O, no clock, no randomness, no float; nothing that keeps it from
//! building for `wasm32-unknown-unknown`. It knows nothing of Python, networks or files.
#![forbid(unsafe_code)]

pub mod answer;
pub mod audit;
pub mod block;
pub mod checkpoint;
pub mod code;
pub mod commitment;
pub mod disclosure;
pub mod error;
pub mod genesis;
pub mod hash;
pub mod history;
pub mod index;
pub mod json;
pub mod ledger;
pub mod listing;
pub mod log;
pub mod map_key;
pub mod mutants;
pub mod profile;
pub mod reading;
pub mod record;
pub mod signature;
pub mod state;
pub mod table;
pub mod trust;
pub mod uscc;
pub mod view;
pub mod vote;
pub mod wire;
