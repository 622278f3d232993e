//! The verifier: from an answer and a trust to a verdict (P42).
//!
//! Rules:
//! - Pure: no clock, no I/O, no randomness. It panics on no input, and every input gets a verdict.
//! - It trusts nothing in the answer. Map keys come from the subject, the certified value from header and log path, the validators
//!   from trust, the root of a table from the proven record of its range.
//! - Steps run in a fixed order and the first one that fails ends it with INVALID. One exception: under another validator set the
//!   certificate is not counted, the other steps still run, and what they find is UNKNOWN.
//! - A verdict is about its header. Without a time it never claims to be current; with one, an old header proves what was.
use super::chain::{judge, Asked, Entry, Finding};
use super::verdict::{Verdict, VerdictKind};
use super::Answer;
use crate::block::Header;
use crate::error::Error;
use crate::hash::{hex, sha256, Hash};
use crate::state;
use crate::trust::Trust;

/// For how long a header counts as current when nothing else is said: eight heartbeats.
pub const MAX_AGE_MS: u64 = 80_000;
/// How far a header may be ahead of the caller's clock.
pub const MAX_AHEAD_MS: u64 = 60_000;
/// For how long a trust can be relied on without an update when nothing else is said: 30 days.
pub const TRUST_PERIOD_MS: u64 = 30 * 24 * 3_600 * 1_000;

/// What the caller knows besides the trust.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options<'o> {
    /// The code that was asked about, in any form that a code can be written in. An answer about another one is INVALID.
    pub code: Option<&'o str>,
    /// The time, milliseconds since 1970 (UTC). Without it there is no age check and no claim to be current.
    pub now_ms: Option<u64>,
    /// The greatest age of a current header; `MAX_AGE_MS` when none is given.
    pub max_age_ms: Option<u64>,
    /// Accept any age. The verdict then does not claim to be current.
    pub any_age: bool,
    /// The least height, for example the one at which the caller saw its own transaction committed.
    pub min_height: Option<u64>,
    /// The time after which trust counts as stale; `TRUST_PERIOD_MS` when none is given.
    pub trust_period_ms: Option<u64>,
}

/// Verifies an encoded answer; bytes that do not parse are INVALID in the step `format`.
pub fn verify_bytes(answer: &[u8], trust: &Trust, options: &Options<'_>) -> Verdict {
    match Answer::decode(answer) {
        Ok(answer) => verify(&answer, trust, options),
        Err(error) => {
            let mut verdict = Verdict::new(trust.validators.len());
            verdict.step(FORMAT, false, error.to_string());
            verdict
        }
    }
}

/// Verifies an answer.
pub fn verify(answer: &Answer, trust: &Trust, options: &Options<'_>) -> Verdict {
    let mut verdict = Verdict::new(trust.validators.len());
    if let Err((step, error)) = run(answer, trust, options, &mut verdict) {
        verdict.verdict = VerdictKind::Invalid;
        verdict.step(step, false, error.to_string());
    }
    verdict
}

const FORMAT: &str = "format";
const SUBJECT: &str = "subject";
const TRUST: &str = "trust";
const HEADER: &str = "header";
const CERTIFICATE: &str = "certificate";
const RECORDS: &str = "records";
const STATE_PROOF: &str = "state proof";
const TABLE: &str = "table";
const AGE: &str = "age";

type Failed = (&'static str, Error);

fn run(answer: &Answer, trust: &Trust, options: &Options<'_>, verdict: &mut Verdict) -> Result<(), Failed> {
    let header = check_format(answer).map_err(|error| (FORMAT, error))?;
    verdict.step(FORMAT, true, format!("answer of version 1 with {} records", answer.records.len()));

    let asked = check_subject(answer, options).map_err(|error| (SUBJECT, error))?;
    verdict.step(SUBJECT, true, answer.subject.clone());
    verdict.subject = Some(answer.subject.clone());

    let set_is_known = check_trust(&header, trust, verdict).map_err(|error| (TRUST, error))?;

    if header.height == 0 {
        return Err((HEADER, Error::proof("no answer is given at height 0; fetch the answer again once a block is committed")));
    }
    verdict.step(HEADER, true, format!("height {}", header.height));

    if set_is_known {
        let signed = answer.block.verify(&header, &trust.validators).map_err(|error| (CERTIFICATE, error))?;
        verdict.signatures.0 = signed;
        verdict.as_of_ms = Some(header.time_ms);
        verdict.height = Some(header.height);
        let (total, quorum) = (trust.validators.len(), trust.validators.quorum());
        verdict.step(CERTIFICATE, true, format!("{signed} of {total} cities signed, {quorum} are needed"));
    } else {
        verdict.step(CERTIFICATE, false, "not counted: trust does not know these cities");
    }

    let entries = answer.records.iter().map(|(kind, record)| Entry::decode(*kind, record.as_deref())).collect::<Result<Vec<_>, _>>();
    let finding = entries.and_then(|entries| judge(&asked, &entries, answer.table.as_ref())).map_err(|error| (RECORDS, error))?;
    verdict.step(RECORDS, true, format!("{} records from the network down to the subject", answer.records.len()));

    check_state_proof(answer, &header, &finding.paths).map_err(|error| (STATE_PROOF, error))?;
    verdict.step(STATE_PROOF, true, "every record stands, or is absent, under the header's state root");

    let detail = check_table(answer, &finding).map_err(|error| (TABLE, error))?;
    verdict.step(TABLE, true, detail);

    conclude(&header, finding, set_is_known, trust, options, verdict);
    Ok(())
}

fn check_format(answer: &Answer) -> Result<Header, Error> {
    answer.check_limits()?;
    Header::decode(&answer.block.header)
}

fn check_subject(answer: &Answer, options: &Options<'_>) -> Result<Asked, Error> {
    let asked = Asked::parse(&answer.subject)?;
    if asked.text() != answer.subject {
        return Err(Error::malformed(format!("the subject {:?} is not canonical; an answer holds {:?}", answer.subject, asked.text())));
    }
    if let Some(code) = options.code {
        let wanted = Asked::parse(code)?;
        if wanted != asked {
            return Err(Error::proof(format!(
                "this answer is about {}, and {} was asked; fetch the answer about that",
                asked.text(),
                wanted.text()
            )));
        }
    }
    Ok(asked)
}

/// Whether trust knows the validators of this header. Another network is an error.
fn check_trust(header: &Header, trust: &Trust, verdict: &mut Verdict) -> Result<bool, Error> {
    if header.genesis != trust.genesis {
        return Err(Error::proof(format!(
            "this answer is from the network with genesis {}, trust is in {:?} with genesis {}; use the trust file of the answer's network",
            hex(&header.genesis),
            trust.name,
            hex(&trust.genesis)
        )));
    }
    let known = header.validators == trust.validators.hash();
    if known {
        verdict.step(TRUST, true, format!("network {:?} and its {} cities", trust.name, trust.validators.len()));
    } else {
        let detail = if header.height > trust.height {
            format!("the answer is under another validator set than trust at height {}; update trust", trust.height)
        } else {
            // Trust's set decides what comes after its height, so this says nothing against the answer, and nothing for it.
            format!("the answer is of height {}, and trust knows who decided after {}; ask for a newer answer", header.height, trust.height)
        };
        verdict.step(TRUST, false, detail);
    }
    Ok(known)
}

fn check_state_proof(answer: &Answer, header: &Header, paths: &[Hash]) -> Result<(), Error> {
    let values = answer.records.iter().map(|(_, record)| record.as_ref().map(|record| sha256(record)));
    let mut claims: Vec<(Hash, Option<Hash>)> = paths.iter().copied().zip(values).collect();
    // The kinds of a chain differ but for two cities, one of them absent and the other there, so no two paths are equal.
    claims.sort_unstable_by_key(|(path, _)| *path);
    state::verify(&header.state_root, &claims, &answer.proof)
}

fn check_table(answer: &Answer, finding: &Finding) -> Result<String, Error> {
    match (&finding.sealed, &answer.table) {
        (Some(sealed), Some(table)) => {
            table.verify(&sealed.table.root, sealed.table.depth, sealed.index)?;
            let held = if table.leaf.is_some() { "a leaf" } else { "an empty leaf" };
            Ok(format!("{held} at index {} of the sealed table, version {}", sealed.index, sealed.table.version))
        }
        (Some(_), None) => Ok("the sealed table was not at hand".to_owned()),
        (None, _) => Ok("no sealed range is involved".to_owned()),
    }
}

/// The verdict of what is proven, by age and height (P42).
fn conclude(header: &Header, finding: Finding, set_is_known: bool, trust: &Trust, options: &Options<'_>, verdict: &mut Verdict) {
    if trust.test || finding.test {
        verdict.notes.push("TEST network: its codes are for trying out".to_owned());
    }
    note_stale_trust(trust, options, verdict);
    if !set_is_known {
        verdict.notes.push(if header.height > trust.height {
            "update trust: these cities' signatures are not counted yet".to_owned()
        } else {
            "older than trust: the signatures of the cities before it are not counted; ask for a newer answer".to_owned()
        });
        verdict.verdict = VerdictKind::Unknown;
        return;
    }
    verdict.verdict = finding.verdict;
    verdict.status = finding.status;
    verdict.code = finding.code;
    verdict.record = finding.record;
    verdict.notes.extend(finding.notes);
    match check_age(header, options) {
        Ok(detail) => verdict.step(AGE, true, detail),
        Err(detail) => {
            verdict.was = Some(verdict.verdict);
            verdict.verdict = VerdictKind::Unknown;
            verdict.notes.push(format!("was so at height {}; whether it still is, is not known", header.height));
            verdict.step(AGE, false, detail);
        }
    }
    verdict.current = verdict.verdict != VerdictKind::Unknown && options.now_ms.is_some() && !options.any_age;
}

/// Whether the header is recent enough, and why or why not.
fn check_age(header: &Header, options: &Options<'_>) -> Result<String, String> {
    if let Some(least) = options.min_height.filter(|least| header.height < *least) {
        return Err(format!("height {} is below {least}, the least height asked for; ask again, or ask another gateway", header.height));
    }
    let Some(now) = options.now_ms else { return Ok("not checked: no time was given".to_owned()) };
    if header.time_ms > now.saturating_add(MAX_AHEAD_MS) {
        return Err(format!(
            "the header is {} s ahead of this clock; set the clock, or ask another gateway",
            (header.time_ms - now) / 1_000
        ));
    }
    let age = now.saturating_sub(header.time_ms);
    let most = options.max_age_ms.unwrap_or(MAX_AGE_MS);
    if options.any_age {
        Ok(format!("{} s old; any age was allowed", age / 1_000))
    } else if age > most {
        Err(format!("the header is {} s old, and {} s are allowed; ask again, or ask another gateway", age / 1_000, most / 1_000))
    } else {
        Ok(format!("{} s old, {} s are allowed", age / 1_000, most / 1_000))
    }
}

fn note_stale_trust(trust: &Trust, options: &Options<'_>, verdict: &mut Verdict) {
    let period = options.trust_period_ms.unwrap_or(TRUST_PERIOD_MS);
    let Some(age) = options.now_ms.map(|now| now.saturating_sub(trust.time_ms)) else { return };
    if age > period {
        let days = 24 * 3_600 * 1_000;
        verdict.notes.push(format!(
            "anchor stale: trust is {} days old and counts for {}; keys retired since then could sign a false past, so update it",
            age / days,
            period / days
        ));
    }
}
