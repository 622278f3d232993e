//! `cityid._native`: the Python face of core and consensus. Borrow, detach, call, wrap; no logic of its own.
#![forbid(unsafe_code)]
use pyo3::prelude::*;

mod answer;
mod bytes;
mod checkpoint;
mod code;
mod consensus;
pub mod error;
mod history;
mod ledger;
#[cfg(feature = "mutants")]
mod mutants;
mod proofs;
mod snapshots;
mod tables;
mod transaction;

/// 32 bytes from the operating system, for hash tables and batch verification; never for keys.
fn random_seed() -> PyResult<[u8; 32]> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| {
        error::StorageError::new_err(format!("the operating system gives no random bytes: {error}; this process cannot go on"))
    })?;
    Ok(seed)
}

#[pymodule]
mod _native {
    #[pymodule_export]
    const NEWEST_PROTOCOL: u64 = cityid_core::block::NEWEST_PROTOCOL;
    #[pymodule_export]
    use super::answer::{verify, verify_disclosure, Answer, Disclosed, Genesis, Trust, Verdict};
    #[pymodule_export]
    use super::checkpoint::{checkpoint_body, checkpoint_note, cosignature_line, cosignature_message, cosignature_vkey};
    #[pymodule_export]
    use super::code::{check_uscc, make_item_code, make_item_codes, parse_many, Code, Members};
    #[pymodule_export]
    use super::consensus::{message_height, verify_certificate, Consensus};
    #[pymodule_export]
    use super::history::{deciding_record, encode_audit_block, find_version, is_under, parse_prefix, AuditPage, Auditor, History, Told};
    #[pymodule_export]
    use super::ledger::{validator_set, Candidate, Commit, Ledger, Snapshot};
    #[cfg(feature = "mutants")]
    #[pymodule_export]
    use super::mutants::plant;
    #[pymodule_export]
    use super::proofs::{
        leaf_hash, log_root, sha256_many, signature_backend, verify_consistency, verify_inclusion, verify_signature, verify_signatures,
        verify_strict, StateMap,
    };
    #[pymodule_export]
    use super::snapshots::{SnapshotLoader, SnapshotWriter};
    #[pymodule_export]
    use super::tables::{storage_receipt_message, Table, TableHead, TableWriter, Tables};
    #[pymodule_export]
    use super::transaction::{
        build_item_transaction, build_transaction, commitment, finish_transaction, header_hash, header_json, possession_message,
        record_json, transaction_json,
    };
}
