//! The golden files of `tests/conformance/golden`, as seeds and as what a verdict is compared with.
use crate::{answers, codes, consensus, ledger, proofs, signatures, tables, Entry};
use cityid_core::json::from_hex;
use std::path::{Path, PathBuf};

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/conformance/golden")
}

/// The content of a golden file: bytes of a `.hex`, text of anything else.
pub(crate) fn read(name: &str) -> Vec<u8> {
    let content = std::fs::read(directory().join(name)).unwrap_or_else(|error| panic!("the golden file {name}: {error}"));
    if !name.ends_with(".hex") {
        return content;
    }
    from_hex(&String::from_utf8(content).expect("hexadecimal").lines().collect::<String>()).expect("hexadecimal")
}

/// Golden files of a family, as `prefix*suffix` or one name, in order of their names.
pub(crate) fn family(pattern: &str) -> Vec<(String, Vec<u8>)> {
    let (prefix, suffix) = pattern.split_once('*').unwrap_or((pattern, ""));
    let mut names: Vec<String> = std::fs::read_dir(directory())
        .expect("the golden files")
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.len() >= prefix.len() + suffix.len() && name.starts_with(prefix) && name.ends_with(suffix))
        .collect();
    names.sort();
    assert!(!names.is_empty(), "no golden file is like {pattern}");
    names.into_iter().map(|name| (name.clone(), read(&name))).collect()
}

/// What a target begins with: good inputs, so that a fuzzer need not find the format by itself.
pub fn seeds(target: &Entry) -> Vec<Vec<u8>> {
    let mut found: Vec<Vec<u8>> = target.families.iter().flat_map(|pattern| family(pattern)).map(|(_, bytes)| bytes).collect();
    found.extend(match target.name {
        "audit_page" => answers::page_seeds(),
        "change" => ledger::change_seeds(),
        "checkpoint" => proofs::checkpoint_seeds(),
        "code" => codes::seeds(),
        "consensus_engine" => consensus::engine_seeds(),
        "consensus_log" => consensus::log_seeds(),
        "consensus_message" => consensus::message_seeds(),
        "disclosure" => answers::disclosure_seeds(),
        "history" => answers::history_seeds(),
        "history_json" => answers::history_json_seeds(),
        "log_proof" => proofs::log_seeds(),
        "operation_json" => ledger::operation_json_seeds(),
        "receipts" => ledger::receipts_seeds(),
        "signature" | "signature_batch" => signatures::seeds(),
        "state_proof" => proofs::state_seeds(),
        "table_index" => tables::index_seeds(),
        "table_proof" => tables::proof_seeds(),
        "table_rows" => tables::rows_seeds(),
        "tls_certificate" => ledger::tls_certificate_seeds(),
        "audit_block" => ledger::audit_block_seeds(),
        _ => Vec::new(),
    });
    found
}
