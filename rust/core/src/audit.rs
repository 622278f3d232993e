//! What an auditor checks without any network: records with their histories, and whole blocks (P77, P78).
//!
//! ```text
//! page   [1, [[key, record, versions]…], ops, hashes, header, log path, [round, bitmap, signatures]]
//! block  [1, header, certificate, receipts, batches]
//! ```
//! - A [`Page`] proves up to 64 records of any keys under one certified state root, each with versions before it (P74).
//! - [`Auditor`] follows the blocks of some heights: each header is the child of the one before, every batch, transaction and receipt
//!   is there under its root, and the votes are those of the set that the header names. Its log root at the end ties all of that to a
//!   certified header.
//! - Whoever has all transactions of a block can say that none was left out; [`Auditor::block`] tells which concern a prefix.
//!
//! What this file does not know: files, and whether the head that the log root is compared with is certified.
use crate::answer::{CertifiedHeader, StateReader};
use crate::block::{header_hash, Header, ValidatorSet, MAX_HEADER};
use crate::code::{City, Class, Code, Serial};
use crate::error::Error;
use crate::hash::{hex, sha256, Hash};
use crate::history::check_link;
use crate::ledger::execute::Output;
use crate::ledger::operation::{Action, Operation, Range, Target};
use crate::ledger::stored::{decode_receipts, Outcome, Receipt};
use crate::ledger::transaction::{batch_digest, decode_batch, Transaction};
use crate::listing::{name_of, Named, Prefix};
use crate::log::{self, Frontier};
use crate::map_key::path_of;
use crate::record::{Record, MAX_RECORD};
use crate::signature;
use crate::state::{self, Proof, QUERIES_MAX};
use crate::trust::Trust;
use crate::vote::{verify_certificate, CommitCertificate};
use crate::wire::{Decoder, Encoder};
use serde_json::{json, Value};
use std::collections::BTreeMap;

/// The most records of a page.
pub const MAX_PAGE_RECORDS: usize = QUERIES_MAX;
/// The longest page.
pub const MAX_PAGE: usize = 16 << 20;
/// The most versions before one record of a page.
pub const MAX_PAGE_VERSIONS: usize = 4_096;
/// The longest block: its batches and receipts, and room for what is around them.
pub const MAX_BLOCK: usize = 512 << 20;
const MAX_KEY: usize = 255;
const MAX_BATCHES: usize = 1 << 16;
const MAX_BATCH_TRANSACTIONS: usize = 1 << 20;
/// The most hashes and step bytes of a proof of so many records; see the bounds of an answer.
const MAX_PROOF_HASHES: usize = 16_384;
const MAX_PROOF_OPS: usize = 16_384;

/// A record under its key, with versions before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The map key.
    pub key: Vec<u8>,
    /// The present record.
    pub record: Vec<u8>,
    /// Versions before it, newest first.
    pub versions: Vec<Vec<u8>>,
}

/// Records of one state with their histories; see the head of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Ascending by key.
    pub entries: Vec<Entry>,
    /// One multi-proof of all of them.
    pub proof: Proof,
    /// The header whose state root it is under.
    pub block: CertifiedHeader,
}

impl Page {
    /// The page of some keys, ascending, with versions before their records; a key without a record is passed over.
    ///
    /// Errors: [`Error::Malformed`] for more than [`MAX_PAGE_RECORDS`] keys, or a page over a limit.
    pub fn build(
        state: &impl StateReader,
        block: &CertifiedHeader,
        keys: impl IntoIterator<Item = (Vec<u8>, Vec<Vec<u8>>)>,
    ) -> Result<Page, Error> {
        let mut page = Page { block: block.clone(), ..Page::default() };
        for (key, versions) in keys {
            if let Some(record) = state.get(&path_of(&key)) {
                page.entries.push(Entry { key, record: record.to_vec(), versions });
            }
        }
        let mut paths: Vec<Hash> = page.entries.iter().map(|entry| path_of(&entry.key)).collect();
        paths.sort_unstable();
        if !paths.is_empty() {
            page.proof = state.prove(&paths)?;
        }
        page.check_limits()?;
        Ok(page)
    }

    /// The canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::with_capacity(4_096);
        out.array(7).uint(1).array(self.entries.len());
        for entry in &self.entries {
            out.array(3).bytes(&entry.key).bytes(&entry.record).array(entry.versions.len());
            for version in &entry.versions {
                out.bytes(version);
            }
        }
        out.bytes(&self.proof.ops).bytes(&self.proof.hashes);
        self.block.encode_fields(&mut out);
        out.finish()
    }

    /// Reads the canonical bytes.
    pub fn decode(bytes: &[u8]) -> Result<Page, Error> {
        if bytes.len() > MAX_PAGE {
            return Err(over("a page", bytes.len(), MAX_PAGE));
        }
        let mut decoder = Decoder::new(bytes);
        decoder.array_of(7)?;
        check_version(decoder.uint()?)?;
        let count = decoder.list(MAX_PAGE_RECORDS, 14)?;
        let mut entries: Vec<Entry> = Vec::with_capacity(count);
        for _ in 0..count {
            decoder.array_of(3)?;
            let key = decoder.bytes(MAX_KEY)?.to_vec();
            if entries.last().is_some_and(|last| last.key >= key) {
                return Err(Error::malformed("keys of a page that are repeated or not ascending"));
            }
            let record = decoder.bytes(MAX_RECORD)?.to_vec();
            let count = decoder.list(MAX_PAGE_VERSIONS, 10)?;
            let mut versions = Vec::with_capacity(count);
            for _ in 0..count {
                versions.push(decoder.bytes(MAX_RECORD)?.to_vec());
            }
            entries.push(Entry { key, record, versions });
        }
        let proof = Proof { ops: decoder.bytes(MAX_PROOF_OPS)?.to_vec(), hashes: decoder.bytes(MAX_PROOF_HASHES * 32)?.to_vec() };
        let block = CertifiedHeader::decode_fields(&mut decoder)?;
        decoder.end()?;
        Ok(Page { entries, proof, block })
    }

    fn check_limits(&self) -> Result<(), Error> {
        if self.entries.len() > MAX_PAGE_RECORDS || self.entries.iter().any(|entry| entry.versions.len() > MAX_PAGE_VERSIONS) {
            return Err(Error::malformed(format!(
                "a page over a limit: {MAX_PAGE_RECORDS} records with {MAX_PAGE_VERSIONS} versions each; ask for a shorter span"
            )));
        }
        let length = self.encode().len();
        if length > MAX_PAGE {
            return Err(over("a page", length, MAX_PAGE));
        }
        Ok(())
    }

    /// Checks that the cities of a trust certified the header, that every record stands under its state root, and every version
    /// before it in its chain. Returns the header, and each entry's versions decoded, the present one first.
    ///
    /// Errors: [`Error::Certificate`] and [`Error::Proof`], with what does not hold.
    pub fn verify(&self, trust: &Trust) -> Result<(Header, Vec<Proven>), Error> {
        let header = Header::decode(&self.block.header)?;
        if header.genesis != trust.genesis {
            return Err(Error::proof("the page is of another network than trust"));
        }
        if header.validators != trust.validators.hash() {
            return Err(Error::Certificate(format!(
                "the page of height {} is under another validator set than trust at height {}; update trust",
                header.height, trust.height
            )));
        }
        self.block.verify(&header, &trust.validators)?;
        let mut claims: Vec<(Hash, Option<Hash>)> =
            self.entries.iter().map(|entry| (path_of(&entry.key), Some(sha256(&entry.record)))).collect();
        claims.sort_unstable_by_key(|(path, _)| *path);
        if claims.is_empty() {
            if self.proof != Proof::default() {
                return Err(Error::proof("a page without records has a proof"));
            }
        } else {
            state::verify(&header.state_root, &claims, &self.proof)?;
        }
        let entries = self.entries.iter().map(Entry::verify).collect::<Result<_, _>>()?;
        Ok((header, entries))
    }
}

/// An entry of a page that holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proven {
    /// The map key.
    pub key: Vec<u8>,
    /// The code; none of a range.
    pub code: Option<String>,
    /// `(record, its bytes)`, the present one first.
    pub versions: Vec<(Record, Vec<u8>)>,
}

impl Entry {
    fn verify(&self) -> Result<Proven, Error> {
        let record = Record::decode(&self.record)?;
        let code = match name_of(&self.key, &record) {
            Some(Named::Code(code)) => Some(code.text()),
            Some(Named::Range(_)) => None,
            None => return Err(Error::proof("a record is shown under a key that is not its own")),
        };
        let mut versions = vec![(record, self.record.clone())];
        for bytes in &self.versions {
            let earlier = Record::decode(bytes)?;
            if let Some((later, _)) = versions.last() {
                check_link(later, bytes, &earlier)?;
            }
            versions.push((earlier, bytes.clone()));
        }
        Ok(Proven { key: self.key.clone(), code, versions })
    }
}

/// A block as an auditor gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block<'b> {
    /// Encoded header.
    pub header: &'b [u8],
    /// Encoded commit certificate.
    pub certificate: &'b [u8],
    /// Its receipts, as they are stored.
    pub receipts: &'b [u8],
    /// Bodies of its batches, in order.
    pub batches: Vec<&'b [u8]>,
}

impl<'b> Block<'b> {
    /// The canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        let size = self.batches.iter().map(|batch| batch.len() + 9).sum::<usize>();
        let mut out = Encoder::with_capacity(size + self.receipts.len() + 1_024);
        out.array(5).uint(1).bytes(self.header).bytes(self.certificate).bytes(self.receipts).array(self.batches.len());
        for batch in &self.batches {
            out.bytes(batch);
        }
        out.finish()
    }

    /// Reads one block from a sequence; the decoder stands behind it afterwards.
    pub fn decode_next(decoder: &mut Decoder<'b>) -> Result<Block<'b>, Error> {
        decoder.array_of(5)?;
        check_version(decoder.uint()?)?;
        let header = decoder.bytes(MAX_HEADER)?;
        let certificate = decoder.bytes(16 * 1_024)?;
        let receipts = decoder.bytes(MAX_BLOCK)?;
        let count = decoder.list(MAX_BATCHES, 3)?;
        let batches = (0..count).map(|_| decoder.bytes(MAX_BLOCK)).collect::<Result<_, _>>()?;
        Ok(Block { header, certificate, receipts, batches })
    }
}

/// What an operation is about.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Subject {
    Code(Code),
    /// An item by its place: which code stands there is for its record to say.
    Place(City, Class, Serial),
    Range(Range),
}

/// Follows consecutive blocks; see the head of the file.
#[derive(Debug)]
pub struct Auditor {
    genesis: Hash,
    sets: BTreeMap<Hash, ValidatorSet>,
    log: Frontier,
    parent: Option<Hash>,
    time_ms: u64,
}

impl Auditor {
    /// An auditor who begins at a height; `peaks` are the complete subtrees of the log below it, `sets` the canonical bytes of the
    /// validator sets that headers name.
    ///
    /// Errors: [`Error::Malformed`].
    pub fn new(genesis: Hash, first: u64, peaks: Vec<Hash>, sets: &[&[u8]]) -> Result<Auditor, Error> {
        let mut known = BTreeMap::new();
        for bytes in sets {
            let set = ValidatorSet::decode(bytes)?;
            known.insert(set.hash(), set);
        }
        Ok(Auditor { genesis, sets: known, log: Frontier::from_parts(first, peaks)?, parent: None, time_ms: 0 })
    }

    /// The number of headers up to the last one, and the root of their log.
    pub fn log(&self) -> (u64, Hash) {
        (self.log.size(), self.log.root())
    }

    /// Checks the next block, and tells what it did to codes under a prefix.
    ///
    /// Errors: [`Error::Certificate`], [`Error::Proof`] or [`Error::Malformed`], with what does not hold.
    pub fn block(&mut self, block: &Block<'_>, prefix: &Prefix) -> Result<Value, Error> {
        let header = Header::decode(block.header)?;
        let height = self.log.size();
        let refuse = |why: String| Err(Error::proof(format!("block {}: {why}", header.height)));
        if header.genesis != self.genesis {
            return refuse("it is of another network".to_owned());
        }
        if header.height != height {
            return refuse(format!("height {height} is due"));
        }
        if self.parent.is_some_and(|parent| parent != header.parent) || header.time_ms <= self.time_ms {
            return refuse("it is not the child of the block before it".to_owned());
        }
        let value = self.log.root_after(&log::leaf_hash(block.header));
        let signatures = self.check_votes(block, &header, &value)?;
        let transactions = check_content(block, &header)?;
        let (_, receipts) = decode_receipts(block.receipts)?;
        let mut touching = Vec::new();
        for (index, (transaction, receipt)) in transactions.iter().zip(&receipts).enumerate() {
            let receipt = Receipt::decode(receipt)?;
            if let Some(told) = touches(index, transaction, &receipt, &header, prefix)? {
                touching.push(told);
            }
        }
        self.log.append(log::leaf_hash(block.header));
        self.parent = Some(header_hash(block.header));
        self.time_ms = header.time_ms;
        Ok(json!({
            "height": height, "time_ms": header.time_ms, "proposer": header.proposer.as_str(), "signatures": signatures.0, "of": signatures.1,
            "validators": hex(&header.validators), "batches": block.batches.len(), "transactions": transactions.len(), "touching": touching,
        }))
    }

    fn check_votes(&self, block: &Block<'_>, header: &Header, value: &Hash) -> Result<(usize, usize), Error> {
        let certificate = CommitCertificate::decode(block.certificate)?;
        let refuse = |why: &str| Err(Error::Certificate(format!("block {}: {why}", header.height)));
        if certificate.height != header.height || certificate.value != *value {
            return refuse("its certificate is for another block");
        }
        match self.sets.get(&header.validators) {
            Some(set) => Ok((verify_certificate(&self.genesis, &set.keys(), &certificate)?, set.len())),
            None => refuse("the set of its validators is not shown"),
        }
    }
}

/// That batches, transactions and receipts are all those that a header commits to.
fn check_content(block: &Block<'_>, header: &Header) -> Result<Vec<Transaction>, Error> {
    let refuse = |what: &str| Err(Error::proof(format!("block {}: its {what} are not those of its header", header.height)));
    let root = |leaves: &mut dyn Iterator<Item = &[u8]>| log::root(&leaves.map(log::leaf_hash).collect::<Vec<_>>());
    let digests: Vec<Hash> = block.batches.iter().map(|body| batch_digest(body)).collect();
    if root(&mut digests.iter().map(|digest| &digest[..])) != header.batches_root {
        return refuse("batches");
    }
    let mut transactions = Vec::new();
    for body in &block.batches {
        transactions.extend(decode_batch(body, MAX_BATCH_TRANSACTIONS)?.into_iter().map(|(transaction, _)| transaction));
    }
    if root(&mut transactions.iter().map(|transaction| &transaction.id[..])) != header.transactions_root {
        return refuse("transactions");
    }
    let (ids, receipts) = decode_receipts(block.receipts)?;
    if root(&mut receipts.iter().map(Vec::as_slice)) != header.receipts_root {
        return refuse("receipts");
    }
    if !ids.iter().eq(transactions.iter().map(|transaction| &transaction.id)) {
        return refuse("receipts' ids");
    }
    Ok(transactions)
}

/// What a transaction did to codes under a prefix, as JSON; none when it does not concern it.
fn touches(index: usize, transaction: &Transaction, receipt: &Receipt, header: &Header, prefix: &Prefix) -> Result<Option<Value>, Error> {
    let mut subjects = Vec::new();
    for (place, operation) in transaction.body.operations.iter().enumerate() {
        let output = match &receipt.outcome {
            Outcome::Committed(outputs) => outputs.get(place),
            Outcome::Rejected(..) | Outcome::Duplicate => None,
        };
        subjects_of(&operation.action, output, &mut subjects)?;
    }
    let concerned: Vec<Value> = subjects
        .iter()
        .filter(|(subject, _)| match subject {
            Subject::Code(code) => prefix.contains(&code.text()),
            Subject::Place(city, class, _) => prefix.may_hold(*city, *class),
            Subject::Range(range) => prefix.may_hold(range.city, range.class),
        })
        .map(|(subject, changes)| {
            let (kind, name, key) = match subject {
                Subject::Code(code) => ("code", code.text(), crate::history::key_of(code)),
                Subject::Place(city, class, serial) => {
                    ("place", format!("{city}{class}{serial}"), crate::map_key::MapKey::Item(*city, *class, *serial).encode())
                }
                Subject::Range(range) => {
                    ("range", format!("{} {} {}+{}", range.city, range.class, range.base, range.size), range.key().encode())
                }
            };
            json!({"kind": kind, "name": name, "key": hex(&key), "changes": changes})
        })
        .collect();
    if concerned.is_empty() {
        return Ok(None);
    }
    let mut checks = Vec::new();
    transaction.signature_checks(&mut checks);
    for (key, message, sig) in &checks {
        signature::verify(key, message, sig).map_err(|_| {
            Error::proof(format!("block {}: a signature of transaction {} does not verify", header.height, hex(&transaction.id)))
        })?;
    }
    let outcome = receipt.to_json(header.height);
    Ok(Some(json!({
        "index": index, "id": hex(&transaction.id), "receipt": outcome, "signers": transaction.body.signers.iter().map(|key| hex(key)).collect::<Vec<_>>(),
        "operations": transaction.body.operations.iter().map(Operation::to_json).collect::<Vec<_>>(), "subjects": concerned,
    })))
}

/// The subjects of an operation, and whether it makes the next version of each.
fn subjects_of(action: &Action, output: Option<&Output>, out: &mut Vec<(Subject, bool)>) -> Result<(), Error> {
    let mut code = |code: Code, changes: bool| out.push((Subject::Code(code), changes));
    match action {
        Action::AdmitOrganisation { city, org, .. } | Action::SetTerms { city, org, .. } => {
            code(Code::Org { city: *city, org: *org }, true)
        }
        Action::RegisterCategory { holder, category, .. } => {
            code(Code::Category { city: holder.city, org: holder.org, category: *category }, true);
        }
        Action::RegisterItems { holder, category, items } => {
            for item in items {
                code(Code::Item { city: holder.city, org: holder.org, category: *category, serial: item.serial }, true);
            }
        }
        Action::OverrideItem { holder, category, item, .. } => {
            code(Code::Item { city: holder.city, org: holder.org, category: *category, serial: item.serial }, true);
        }
        Action::RotateKeys { subject, .. }
        | Action::SetControllers { subject, .. }
        | Action::UpdateProfile { subject, .. }
        | Action::StartRecovery { subject, .. }
        | Action::EndRecovery { subject, .. } => code(subject.clone(), true),
        Action::SetStatus { target, .. } | Action::OfferTransfer { target, .. } | Action::AcceptTransfer { target, .. } => match target {
            Target::Code(subject) => code(subject.clone(), true),
            Target::Range(range) => out.push((Subject::Range(*range), true)),
        },
        Action::UpdateItems { city, class, items } => {
            out.extend(items.iter().map(|item| (Subject::Place(*city, *class, item.serial), true)));
        }
        Action::SealRange { range, .. } | Action::ReserveRange { range, .. } => out.push((Subject::Range(*range), true)),
        Action::AllocateRange { holder, class, size } => {
            code(holder.code(), false);
            if let Some(Output::Range(base, _)) = output {
                let base = u32::try_from(*base).map_err(|_| Error::malformed("a receipt with a serial above nine digits"))?;
                out.push((Subject::Range(Range::new(holder.city, *class, Serial::new(base)?, *size)?), true));
            }
        }
        Action::RegisterAliases { aliases, .. } => aliases.iter().for_each(|(_, subject)| code(subject.clone(), false)),
        Action::MapDistrict { city, .. }
        | Action::Propose { city, .. }
        | Action::Vote { city, .. }
        | Action::WithdrawProposal { city, .. } => {
            code(Code::City { city: *city }, false);
        }
    }
    Ok(())
}

fn check_version(version: u64) -> Result<(), Error> {
    if version == 1 {
        return Ok(());
    }
    Err(Error::malformed(format!("a page or block of an audit of version {version}; this software reads version 1, get a newer one")))
}

fn over(what: &str, length: usize, limit: usize) -> Error {
    Error::malformed(format!("{what} of {length} bytes, more than the limit of {limit}; ask for a shorter span"))
}
