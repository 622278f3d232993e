//! Fuzz targets: one function for each decoder and verifier that reads what somebody else wrote.
//!
//! - A target takes any bytes. It must return: a panic is a finding. What else must hold is asserted by the target itself: what was
//!   read is written again as the same bytes, two verifiers agree, nothing verifies that nobody signed.
//! - [`TARGETS`] names them; [`seeds`] gives each the golden files of its format to begin with.
//! - `tests/corpus.rs` replays seeds and `corpus/` with the stable compiler, in `make test`. `make fuzz` searches on, under libFuzzer
//!   (`libfuzzer/`, a package outside the workspace: nothing else needs a nightly compiler).
//!
//! It knows the formats only by calling their decoders. A finding is kept as a file in `corpus/TARGET/`, and fixed.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a target reports by panicking

mod answers;
mod codes;
mod consensus;
mod golden;
mod ledger;
mod proofs;
mod signatures;
mod tables;

pub use golden::seeds;

/// What a fuzzer calls with its bytes.
pub type Target = fn(&[u8]);

/// A target: its name, its function, and the families of golden files that are its seeds.
pub struct Entry {
    /// Also the name of its folder in `corpus/`.
    pub name: &'static str,
    /// The function.
    pub run: Target,
    /// Golden files whose names begin so; `NAME.json` and `NAME.txt` only where the entry says so.
    pub families: &'static [&'static str],
}

const fn entry(name: &'static str, run: Target, families: &'static [&'static str]) -> Entry {
    Entry { name, run, families }
}

/// Every target.
pub const TARGETS: &[Entry] = &[
    entry("answer", answers::answer, &["answer-*.hex"]),
    entry("answer_json", answers::answer_json, &["answer-*.json"]),
    entry("audit_block", ledger::audit_block, &["batch.hex", "receipt-*.hex"]),
    entry("audit_page", answers::page, &[]),
    entry("batch", ledger::batch, &["batch.hex"]),
    entry("certificate", answers::certificate, &["certificate.hex"]),
    entry("certified_header", answers::certified_header, &["certified-header.hex"]),
    entry("change", ledger::change, &[]),
    entry("checkpoint", proofs::checkpoint, &[]),
    entry("code", codes::code, &[]),
    entry("consensus_engine", consensus::engine, &[]),
    entry("consensus_log", consensus::log, &[]),
    entry("consensus_message", consensus::message, &[]),
    entry("disclosure", answers::disclosure, &[]),
    entry("genesis_json", ledger::genesis_json, &["genesis.json"]),
    entry("header", ledger::header, &["header*.hex"]),
    entry("history", answers::history, &[]),
    entry("history_json", answers::history_json, &[]),
    entry("log_proof", proofs::log_proof, &[]),
    entry("operation", ledger::operation, &["operation-*.hex"]),
    entry("operation_json", ledger::operation_json, &[]),
    entry("receipts", ledger::receipts, &["receipt-*.hex"]),
    entry("record", ledger::record, &["record-*.hex"]),
    entry("signature", signatures::signature, &[]),
    entry("signature_batch", signatures::batch, &[]),
    entry("state_proof", proofs::state_proof, &[]),
    entry("table_file", tables::file, &["table-file.hex"]),
    entry("table_index", tables::index, &[]),
    entry("table_proof", tables::proof, &[]),
    entry("table_rows", tables::rows, &[]),
    entry("tls_certificate", ledger::tls_certificate, &[]),
    entry("transaction", ledger::transaction, &["transaction.hex"]),
    entry("trust", answers::trust, &["trust.hex"]),
    entry("trust_json", answers::trust_json, &["trust.json", "genesis.json"]),
    entry("validators", ledger::validators, &["validators.hex"]),
    entry("wire", ledger::wire, &["answer-*.hex", "transaction.hex", "header.hex"]),
];

/// Runs a target by its name; false when there is none.
pub fn run(name: &str, data: &[u8]) -> bool {
    match TARGETS.iter().find(|target| target.name == name) {
        Some(target) => {
            (target.run)(data);
            true
        }
        None => false,
    }
}

/// The text that bytes are, for the targets that read text.
fn text(data: &[u8]) -> Option<&str> {
    std::str::from_utf8(data).ok()
}
