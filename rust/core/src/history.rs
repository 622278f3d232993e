//! History: every version of a record, proven by the present one (P11, P74).
//!
//! ```text
//! [1, answer or null, versions, headers]
//! ```
//! The answer proves the record that decides. `versions` are the ones before it, newest first: each is the one whose tagged hash
//! the later one names, so none can be changed, left out in between or put in. `headers` are those of the heights at which versions
//! were made, each with its inclusion path in the log that the answer's header ends: they date the versions. Version v held from
//! its height until the height of v + 1.
//!
//! Rules:
//! - A history may end before version 1, because whoever gave it had no more at hand or room. That is said ([`Told::is_complete`]), and
//!   what lies below is never denied.
//! - A part without an answer goes on where another one ended ([`Told::extend`]); its headers are of the same log.
//! - Nothing is ever deleted, so whatever is proven absent today was never there, and before its version 1 a record was not there.
//!
//! What this file does not know: where versions are stored, and what the records above the subject were at the time. A version's
//! status is its own, not the effective one along the chain.
use crate::answer::{self, text, Answer, Options, Step, Verdict, VerdictKind, MAX_LOG_PATH};
use crate::block::{Header, MAX_HEADER};
use crate::code::Code;
use crate::error::Error;
use crate::hash::Hash;
use crate::json;
use crate::ledger::stored::decode_changes;
use crate::log;
use crate::map_key::MapKey;
use crate::record::{record_hash, Record, MAX_RECORD};
use crate::trust::Trust;
use crate::wire::{Decoder, Encoder};
use serde_json::{json, Value};

/// The most versions of one part.
pub const MAX_VERSIONS: usize = 4_096;
/// The longest part in CBOR.
pub const MAX_HISTORY: usize = 16 << 20;
/// The longest part in JSON: base64url takes four bytes for three, and each entry a line.
pub const MAX_HISTORY_JSON: usize = 24 << 20;

/// A header of the log that a history's answer ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedHeader {
    /// The encoded header: the log leaf of its height.
    pub header: Vec<u8>,
    /// Its inclusion path.
    pub path: Vec<Hash>,
}

/// See the head of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// The answer whose record the versions lead to; none in a part that continues another one.
    pub answer: Option<Answer>,
    /// Encoded records, newest first.
    pub versions: Vec<Vec<u8>>,
    /// Ascending by height.
    pub headers: Vec<LoggedHeader>,
}

/// One version that is proven.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// Time of its height, milliseconds since 1970 (UTC), when the header is shown.
    pub time_ms: Option<u64>,
    /// The record.
    pub record: Record,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// What a history says under a trust.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// That of the answer, with the step `history`.
    pub verdict: Verdict,
    /// Newest first; empty when no record decides, or the verdict is INVALID.
    pub versions: Vec<Version>,
    /// The log that the answer's header ends: its size and root.
    log: Option<(u64, Hash)>,
}

/// What held at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Held<'t> {
    /// This version.
    Version(&'t Version),
    /// Nothing was registered yet.
    NotYet,
    /// That is not known from this history, and why.
    Unknown(String),
}

impl History {
    /// The canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::with_capacity(4_096 + self.versions.iter().map(Vec::len).sum::<usize>());
        out.array(4).uint(1).bytes_or_null(self.answer.as_ref().map(Answer::encode).as_deref()).array(self.versions.len());
        for version in &self.versions {
            out.bytes(version);
        }
        out.array(self.headers.len());
        for header in &self.headers {
            out.array(2).bytes(&header.header).bytes(header.path.as_flattened());
        }
        out.finish()
    }

    /// Reads the canonical bytes.
    ///
    /// Errors: [`Error::Malformed`] for anything not canonical or over a limit.
    pub fn decode(bytes: &[u8]) -> Result<History, Error> {
        check_length(bytes.len(), MAX_HISTORY)?;
        let mut decoder = Decoder::new(bytes);
        decoder.array_of(4)?;
        check_version(decoder.uint()?)?;
        let answer = if decoder.null() { None } else { Some(Answer::decode(decoder.bytes(answer::MAX_ANSWER)?)?) };
        // A record has at least four fields, a header and its path two heads.
        let count = decoder.list(MAX_VERSIONS, 10)?;
        let mut versions = Vec::with_capacity(count);
        for _ in 0..count {
            versions.push(decoder.bytes(MAX_RECORD)?.to_vec());
        }
        let count = decoder.list(MAX_VERSIONS + 1, 3)?;
        let mut headers = Vec::with_capacity(count);
        for _ in 0..count {
            decoder.array_of(2)?;
            let header = decoder.bytes(MAX_HEADER)?.to_vec();
            headers.push(LoggedHeader { header, path: whole_hashes(decoder.bytes(MAX_LOG_PATH * 32)?)? });
        }
        decoder.end()?;
        Ok(History { answer, versions, headers })
    }

    /// A history and the parts that continue it, as one.
    ///
    /// Errors: [`Error::Malformed`] when that is over a limit.
    pub fn join(parts: impl IntoIterator<Item = History>) -> Result<History, Error> {
        let mut whole = History::default();
        for part in parts {
            whole.answer = whole.answer.or(part.answer);
            whole.versions.extend(part.versions);
            whole.headers.extend(part.headers);
        }
        // Two parts may meet within one height, whose header both have.
        let height = |logged: &LoggedHeader| Header::decode(&logged.header).map(|header| header.height);
        let mut headers = whole.headers.into_iter().map(|logged| Ok((height(&logged)?, logged))).collect::<Result<Vec<_>, Error>>()?;
        headers.sort_by_key(|(height, _)| *height);
        headers.dedup();
        whole.headers = headers.into_iter().map(|(_, logged)| logged).collect();
        whole.check_limits()?;
        Ok(whole)
    }

    /// The JSON form: the same content for tools, bytes in base64url without padding.
    pub fn to_json(&self) -> String {
        let headers = self
            .headers
            .iter()
            .map(|header| json!({"header": text::encode(&header.header), "log_path": text::encode(header.path.as_flattened())}));
        json::pretty(&json!({
            "cityid": "history", "version": 1, "answer": self.answer.as_ref().map(Answer::to_value),
            "versions": self.versions.iter().map(|version| text::encode(version)).collect::<Vec<_>>(),
            "headers": headers.collect::<Vec<_>>(),
        }))
    }

    /// Reads the JSON form; refuses fields that it does not know.
    pub fn from_json(text: &str) -> Result<History, Error> {
        let mut object = json::parse_object(text, MAX_HISTORY_JSON, "a history")?;
        object.expect_text("cityid", "history")?;
        check_version(object.uint("version")?)?;
        let answer = object.optional_object("answer")?.map(Answer::from_object).transpose()?;
        let versions =
            object.texts("versions", MAX_VERSIONS)?.iter().map(|text| text::from_text(text, "versions")).collect::<Result<_, _>>()?;
        let mut headers = Vec::new();
        for mut entry in object.objects("headers", MAX_VERSIONS + 1)? {
            let header = text::bytes(&mut entry, "header")?;
            headers.push(LoggedHeader { header, path: whole_hashes(&text::bytes(&mut entry, "log_path")?)? });
            entry.end()?;
        }
        object.end()?;
        let history = History { answer, versions, headers };
        history.check_limits()?;
        Ok(history)
    }

    /// The bounds that [`History::decode`] puts on each field, for a history that was made in memory or came as JSON.
    pub fn check_limits(&self) -> Result<(), Error> {
        let within = self.versions.len() <= MAX_VERSIONS
            && self.headers.len() <= MAX_VERSIONS + 1
            && self.versions.iter().all(|version| version.len() <= MAX_RECORD)
            && self.headers.iter().all(|header| header.header.len() <= MAX_HEADER && header.path.len() <= MAX_LOG_PATH);
        if !within {
            return Err(Error::malformed(format!(
                "a history over a limit: {MAX_VERSIONS} versions of {MAX_RECORD} bytes, headers of {MAX_HEADER}; ask for it in parts"
            )));
        }
        if let Some(answer) = &self.answer {
            answer.check_limits()?;
        }
        check_length(self.encode().len(), MAX_HISTORY)
    }
}

/// Verifies a history from its beginning: the answer as [`answer::verify`] does it, then hashes and headers.
///
/// A part without an answer is INVALID here: [`Told::extend`] takes those.
pub fn verify(history: &History, trust: &Trust, options: &Options<'_>) -> Told {
    let Some(answer) = &history.answer else {
        let verdict = Verdict::of_bytes_that_do_not_parse(
            trust,
            "a part of a history without its beginning; put it behind the part that it continues",
        );
        return Told { verdict, versions: Vec::new(), log: None };
    };
    let mut told = Told { verdict: answer::verify(answer, trust, options), versions: Vec::new(), log: None };
    if told.verdict.verdict == VerdictKind::Invalid {
        return told;
    }
    if let Err(error) = told.begin(answer, history) {
        told.versions.clear();
        told.log = None;
        told.verdict.verdict = VerdictKind::Invalid;
        told.verdict.was = None;
        told.verdict.current = false;
        told.step(false, error.to_string());
    }
    told
}

/// Verifies an encoded history; bytes that do not parse are INVALID in the step `format`.
pub fn verify_bytes(history: &[u8], trust: &Trust, options: &Options<'_>) -> Told {
    match History::decode(history) {
        Ok(history) => verify(&history, trust, options),
        Err(error) => Told { verdict: Verdict::of_bytes_that_do_not_parse(trust, &error.to_string()), versions: Vec::new(), log: None },
    }
}

impl Told {
    fn begin(&mut self, answer: &Answer, history: &History) -> Result<(), Error> {
        history.check_limits()?;
        // A verdict without a height is of cities that trust does not know: nothing of it counts, and neither does the rest.
        let Some(height) = self.verdict.height else {
            self.step(false, "not counted: trust does not know these cities");
            return Ok(());
        };
        let root = answer.block.log_root(height)?;
        self.log = Some((height + 1, root));
        let Some(record) = self.verdict.record.clone() else {
            if history.versions.is_empty() && history.headers.is_empty() {
                self.step(true, "no record decides, so there is nothing before it");
                return Ok(());
            }
            return refuse("versions or headers are shown, and no record decides");
        };
        let newest = Version { time_ms: None, bytes: record.encode(), record };
        self.versions.push(newest);
        self.append(history, 0)?;
        let (count, versions) = (self.versions.len(), self.versions.first().map_or(0, |version| version.record.version));
        self.step(true, format!("{count} of {versions} versions, each the one that the next names by its hash"));
        Ok(())
    }

    /// Adds a part that continues this history. When anything of it does not fit, nothing is added.
    ///
    /// Errors: [`Error::Proof`], with what does not fit; [`Error::Malformed`] over a limit.
    pub fn extend(&mut self, part: &History) -> Result<(), Error> {
        part.check_limits()?;
        if part.answer.is_some() {
            return refuse("a part with an answer is the beginning of a history, and does not continue one");
        }
        if self.versions.is_empty() {
            return refuse("there is nothing that it could continue");
        }
        let known = self.versions.len();
        let outcome = self.append(part, known);
        if outcome.is_err() {
            self.versions.truncate(known);
        }
        outcome
    }

    /// Appends versions and dates those from `first` on.
    fn append(&mut self, history: &History, first: usize) -> Result<(), Error> {
        for bytes in &history.versions {
            let record = Record::decode(bytes)?;
            let Some(later) = self.versions.last() else { return refuse("there is no later version") };
            check_link(&later.record, bytes, &record)?;
            self.versions.push(Version { time_ms: None, bytes: bytes.clone(), record });
        }
        self.date(&history.headers, first)
    }

    /// Checks headers against the log, and gives the versions from `first` on their times.
    fn date(&mut self, headers: &[LoggedHeader], first: usize) -> Result<(), Error> {
        let Some((size, root)) = self.log else { return refuse("there is no log to date it by") };
        let mut last = None;
        for logged in headers {
            let header = Header::decode(&logged.header)?;
            if last.is_some_and(|last| last >= header.height) {
                return refuse("headers that are repeated or not ascending by height");
            }
            last = Some(header.height);
            log::verify_inclusion(&log::leaf_hash(&logged.header), header.height, size, &logged.path, &root)?;
            let mut dated = false;
            for version in self.versions[first..].iter_mut().filter(|version| version.record.height == header.height) {
                version.time_ms = Some(header.time_ms);
                dated = true;
            }
            // The answer's own header is there already, and one that dates nothing says nothing.
            if !dated || header.height + 1 == size {
                return refuse(format!("the header of height {} dates no version", header.height));
            }
        }
        let own = self.verdict.as_of_ms.filter(|_| first == 0);
        for version in self.versions[first..].iter_mut().filter(|version| version.record.height + 1 == size) {
            version.time_ms = version.time_ms.or(own);
        }
        Ok(())
    }

    fn step(&mut self, passed: bool, detail: impl Into<String>) {
        self.verdict.steps.push(Step { name: HISTORY, passed, detail: detail.into() });
    }

    /// Whether it goes down to version 1. A history without a record is complete when its verdict counts.
    pub fn is_complete(&self) -> bool {
        match self.versions.last() {
            Some(oldest) => oldest.record.version == 1,
            None => self.log.is_some() && self.verdict.verdict != VerdictKind::Unavailable,
        }
    }

    /// The version that is missing next, with the height at which it was made; none when nothing is.
    pub fn missing(&self) -> Option<(u64, u64)> {
        let oldest = &self.versions.last()?.record;
        Some((oldest.version.checked_sub(1).filter(|version| *version > 0)?, oldest.previous_height?))
    }

    /// What held at a height, after its block.
    pub fn at(&self, height: u64) -> Held<'_> {
        match self.log {
            Some((size, _)) if height < size => self.held(|version| Some(version.record.height <= height)),
            Some((size, _)) => Held::Unknown(format!("height {height} is above {}, that of the answer; ask again later", size - 1)),
            None => Held::Unknown(NOT_COUNTED.to_owned()),
        }
    }

    /// What held at a time: after the last block that is not later.
    pub fn at_time(&self, time_ms: u64) -> Held<'_> {
        match self.verdict.as_of_ms.filter(|_| self.log.is_some()) {
            Some(as_of) if time_ms <= as_of => self.held(|version| version.time_ms.map(|time| time <= time_ms)),
            Some(_) => Held::Unknown("that time is after the answer's; ask again later".to_owned()),
            None => Held::Unknown(NOT_COUNTED.to_owned()),
        }
    }

    /// The newest version of which `began` says that it had begun; none when that is not known.
    fn held(&self, began: impl Fn(&Version) -> Option<bool>) -> Held<'_> {
        for version in &self.versions {
            match began(version) {
                Some(true) => return Held::Version(version),
                Some(false) => {}
                None => {
                    return Held::Unknown(format!("the time of height {} is not shown; ask another gateway", version.record.height));
                }
            }
        }
        match self.missing() {
            None if self.is_complete() => Held::NotYet,
            None => Held::Unknown("no record is proven".to_owned()),
            Some((version, _)) => {
                Held::Unknown(format!("version {version} and those below are not shown; ask for them, or another gateway"))
            }
        }
    }

    /// The JSON form: the verdict, the versions newest first with the record of each, and whether that is all.
    pub fn to_json(&self) -> Value {
        json!({
            "cityid": "history", "verdict": self.verdict.to_json(), "complete": self.is_complete(),
            "missing": self.missing().map(|(version, height)| json!({"version": version.to_string(), "height": height.to_string()})),
            "versions": self.versions.iter().map(Version::to_json).collect::<Vec<_>>(),
        })
    }
}

impl Version {
    /// The JSON form: when it was made, and the record.
    pub fn to_json(&self) -> Value {
        json!({
            "version": self.record.version.to_string(), "height": self.record.height.to_string(),
            "time_ms": self.time_ms.map(|time| time.to_string()), "status": self.record.status.name(), "record": self.record.to_json(),
        })
    }
}

/// That a record is the version which a later one names as its previous.
///
/// Errors: [`Error::Proof`].
pub fn check_link(later: &Record, bytes: &[u8], earlier: &Record) -> Result<(), Error> {
    let version = later.version;
    if later.previous != Some(record_hash(bytes)) {
        return refuse(format!("what stands before version {version} is not the record whose hash version {version} names"));
    }
    // The hash binds the bytes; these say that whoever wrote the later version kept the rule.
    if later.previous_height != Some(earlier.height) || earlier.version.checked_add(1) != Some(version) || earlier.kind != later.kind {
        return refuse(format!("version {version} names another version, height or kind than the record before it has"));
    }
    Ok(())
}

/// The map key of the record behind a code, or of a foreign one's claims.
pub fn key_of(code: &Code) -> Vec<u8> {
    match code {
        Code::City { city } => MapKey::City(*city).encode(),
        Code::Org { city, org } => MapKey::Organisation(*city, *org).encode(),
        Code::Category { city, org, category } => MapKey::Category(*city, *org, *category).encode(),
        Code::Item { city, category, serial, .. } => MapKey::Item(*city, category.class, *serial).encode(),
        Code::Foreign(foreign) => MapKey::Foreign(foreign.as_str()).encode(),
    }
}

/// The record with a tagged hash that a height wrote under a key: one height may write several versions.
///
/// Errors: [`Error::Malformed`] when the stored changes are damaged.
pub fn find_version<'c>(changes: &'c [u8], key: &[u8], hash: &Hash) -> Result<Option<&'c [u8]>, Error> {
    let mut found = None;
    decode_changes(changes, |under, record| {
        if under == key && found.is_none() && record_hash(record) == *hash {
            found = Some(record);
        }
    })?;
    Ok(found)
}

const HISTORY: &str = "history";
const NOT_COUNTED: &str = "nothing of this history counts";

fn check_version(version: u64) -> Result<(), Error> {
    if version == 1 {
        return Ok(());
    }
    Err(Error::malformed(format!("a history of version {version}; this software reads version 1, get a newer one")))
}

fn check_length(length: usize, limit: usize) -> Result<(), Error> {
    if length <= limit {
        return Ok(());
    }
    Err(Error::malformed(format!("a history of {length} bytes, more than the limit of {limit}; ask for it in parts")))
}

fn whole_hashes(bytes: &[u8]) -> Result<Vec<Hash>, Error> {
    match bytes.as_chunks::<32>() {
        (hashes, []) => Ok(hashes.to_vec()),
        _ => Err(Error::malformed("a log path that is not whole hashes of 32 bytes")),
    }
}

fn refuse<T>(why: impl std::fmt::Display) -> Result<T, Error> {
    Err(Error::proof(format!("the history is refused: {why}; fetch it again, from another gateway if this repeats")))
}
