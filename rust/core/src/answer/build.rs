//! Building answers from a state, and resolving against one's own state without a proof.
//!
//! Both read the same chain as the verifier and judge it by the same function, so a node never gives a verdict that its own
//! answer would not prove.
use super::chain::{judge, Asked, Entry, Finding};
use super::collect::{collect, Collected};
use super::verdict::VerdictKind;
use super::{Answer, CertifiedHeader};
use crate::code::Subject;
use crate::error::Error;
use crate::hash::Hash;
use crate::record::{Record, Status, Table};
use crate::state::Proof;
use crate::table::TableProof;
use std::sync::Arc;

/// One unchanging version of the state.
pub trait StateReader {
    /// The record under a path.
    fn get(&self, path: &Hash) -> Option<Arc<[u8]>>;
    /// Proves presence or absence of paths, which are ascending and unique.
    fn prove(&self, paths: &[Hash]) -> Result<Proof, Error>;
}

impl StateReader for crate::index::Snapshot {
    fn get(&self, path: &Hash) -> Option<Arc<[u8]>> {
        crate::index::Snapshot::get(self, path)
    }

    fn prove(&self, paths: &[Hash]) -> Result<Proof, Error> {
        crate::index::Snapshot::prove(self, paths)
    }
}

/// Finds what the table with this root holds at an index; none when the table is not at hand.
pub type TableLookup<'l> = &'l dyn Fn(&Table, u32) -> Option<TableProof>;

/// What one's own state says about a subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolution {
    /// Never UNKNOWN or INVALID: it is one's own state.
    pub verdict: VerdictKind,
    /// The effective status of a registered subject (P13).
    pub status: Option<Status>,
    /// The code of the record: the subject's, or the other one of a mismatch.
    pub code: Option<String>,
    /// The record that decides.
    pub record: Option<Record>,
    /// What a person should know besides.
    pub notes: Vec<String>,
}

/// Resolves a subject without a proof.
///
/// Errors: [`Error::Code`] when a member city's code is mistyped, [`Error::Proof`] or [`Error::Malformed`] when the state is damaged.
pub fn resolve(subject: &Subject, reader: &impl StateReader, tables: TableLookup<'_>) -> Result<Resolution, Error> {
    let (_, _, finding) = find(subject, reader, tables)?;
    Ok(Resolution::from(finding))
}

/// What an answer says if its proofs hold, which nothing here checks: for whoever made it and goes on from its record.
///
/// Errors: [`Error::Proof`] or [`Error::Malformed`] when its records are not the ones that decide about its subject.
pub fn claimed(answer: &Answer) -> Result<Resolution, Error> {
    let asked = Asked::parse(&answer.subject)?;
    let entries: Vec<Entry> =
        answer.records.iter().map(|(kind, record)| Entry::decode(*kind, record.as_deref())).collect::<Result<_, _>>()?;
    judge(&asked, &entries, answer.table.as_ref()).map(Resolution::from)
}

impl From<Finding> for Resolution {
    fn from(finding: Finding) -> Resolution {
        let Finding { verdict, status, code, record, notes, .. } = finding;
        Resolution { verdict, status, code, record, notes }
    }
}

/// Builds the answer about a subject from the state of a certified header, where no sealed table is at hand.
///
/// Errors: as [`resolve`].
pub fn build(subject: &Subject, reader: &impl StateReader, block: &CertifiedHeader) -> Result<Answer, Error> {
    build_with_tables(subject, reader, block, &|_, _| None)
}

/// Builds the answer about a subject from the state of a certified header and the sealed tables at hand.
///
/// Errors: as [`resolve`].
pub fn build_with_tables(
    subject: &Subject,
    reader: &impl StateReader,
    block: &CertifiedHeader,
    tables: TableLookup<'_>,
) -> Result<Answer, Error> {
    let (asked, collected, finding) = find(subject, reader, tables)?;
    let mut paths = finding.paths;
    paths.sort_unstable();
    let records = collected.records.into_iter().map(|(kind, record)| (kind, record.map(|bytes| bytes.to_vec()))).collect();
    Ok(Answer { subject: asked.text(), records, proof: reader.prove(&paths)?, table: collected.table, block: block.clone() })
}

fn find(subject: &Subject, reader: &impl StateReader, tables: TableLookup<'_>) -> Result<(Asked, Collected, Finding), Error> {
    // The subject may have been parsed with a member list, under which a fitting string of another city is foreign. The verifier
    // has no such list: to it the city's absence is the proof.
    let asked = Asked::parse(&subject.to_string())?;
    let collected = collect(&asked, reader, tables)?;
    let entries: Vec<Entry> =
        collected.records.iter().map(|(kind, record)| Entry::decode(*kind, record.as_deref())).collect::<Result<_, _>>()?;
    let finding = judge(&asked, &entries, collected.table.as_ref())?;
    Ok((asked, collected, finding))
}
