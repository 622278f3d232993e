//! The verdict: what an answer says, as of when, on how many cities' word, and how that was found out.
//!
//! A verdict is about registration. It says nothing about the thing that carries the code: a copied label has a valid code.
use crate::genesis::Parameters;
use crate::hash::{hex, Hash};
use crate::ledger::operation::{commitments_json, services_json};
use crate::record::{Children, Record, Status};
use serde_json::{json, Map, Value};

/// The verdicts of P42.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum VerdictKind {
    /// Presence is proven; the effective status says whether it is in use.
    Registered,
    /// Absence is proven.
    NotRegistered,
    /// The serial is registered under another code.
    Mismatch,
    /// The string is foreign, or its city is proven to be no member.
    NotOurs,
    /// The range is sealed, and its table was not at hand.
    Unavailable,
    /// Too old, below the least height asked for, ahead of the clock, or under a validator set that trust does not know.
    Unknown,
    /// A step failed: this answer says nothing.
    Invalid,
}

impl VerdictKind {
    /// The name in JSON and on screens.
    pub const fn name(self) -> &'static str {
        match self {
            VerdictKind::Registered => "REGISTERED",
            VerdictKind::NotRegistered => "NOT_REGISTERED",
            VerdictKind::Mismatch => "MISMATCH",
            VerdictKind::NotOurs => "NOT_OURS",
            VerdictKind::Unavailable => "UNAVAILABLE",
            VerdictKind::Unknown => "UNKNOWN",
            VerdictKind::Invalid => "INVALID",
        }
    }
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// `format`, `subject`, `trust`, `header`, `certificate`, `records`, `state proof`, `table` or `age`.
    pub name: &'static str,
    /// Whether it held.
    pub passed: bool,
    /// What was seen, or what is wrong and what to do.
    pub detail: String,
}

/// What an answer says under a trust.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The verdict.
    pub verdict: VerdictKind,
    /// Of UNKNOWN: what was proven at `height`, if anything.
    pub was: Option<VerdictKind>,
    /// Whether it holds now: a time was given, and the header is recent enough for it.
    pub current: bool,
    /// Effective status (P13) of a registered subject, also of one that `was` registered.
    pub status: Option<Status>,
    /// Time of the header, milliseconds since 1970 (UTC); none while its certificate has not been checked.
    pub as_of_ms: Option<u64>,
    /// Height of the header; none while its certificate has not been checked.
    pub height: Option<u64>,
    /// How many cities signed, and of how many.
    pub signatures: (usize, usize),
    /// The checks in order. The last one of an INVALID verdict is the one that failed.
    pub steps: Vec<Step>,
    /// What a person should know besides.
    pub notes: Vec<String>,
    /// The canonical subject.
    pub subject: Option<String>,
    /// The code of `record`: the subject's, or another one of MISMATCH and of an alias.
    pub code: Option<String>,
    /// The record that decides: of a foreign code the claims to it.
    pub record: Option<Record>,
}

impl Verdict {
    /// A verdict before the first step.
    pub(super) fn new(cities: usize) -> Verdict {
        Verdict {
            verdict: VerdictKind::Invalid,
            was: None,
            current: false,
            status: None,
            as_of_ms: None,
            height: None,
            signatures: (0, cities),
            steps: Vec::new(),
            notes: Vec::new(),
            subject: None,
            code: None,
            record: None,
        }
    }

    pub(super) fn step(&mut self, name: &'static str, passed: bool, detail: impl Into<String>) {
        self.steps.push(Step { name, passed, detail: detail.into() });
    }

    /// The JSON form: 64-bit integers as strings, the record with names for everything.
    pub fn to_json(&self) -> Value {
        let steps: Vec<Value> =
            self.steps.iter().map(|step| json!({"name": step.name, "passed": step.passed, "detail": step.detail})).collect();
        json!({
            "cityid": "verdict",
            "verdict": self.verdict.name(),
            "was": self.was.map(VerdictKind::name),
            "current": self.current,
            "status": self.status.map(Status::name),
            "subject": self.subject,
            "code": self.code,
            "as_of_ms": self.as_of_ms.map(|time| time.to_string()),
            "height": self.height.map(|height| height.to_string()),
            "signatures": {"count": self.signatures.0, "of": self.signatures.1},
            "notes": self.notes,
            "steps": steps,
            "record": self.record.as_ref().map(record_json),
        })
    }
}

/// A record as JSON for people and tools: only the fields that it has, 64-bit integers as strings, bytes in hexadecimal.
pub fn record_json(record: &Record) -> Value {
    let mut fields = Map::new();
    let mut put = |name: &str, value: Value| fields.insert(name.to_owned(), value);
    put("kind", json!(record.kind.name()));
    put("version", number(record.version));
    put("height", number(record.height));
    if let Some(previous) = &record.previous {
        put("previous", json!(hex(previous)));
    }
    put("status", json!(record.status.name()));
    if record.status_by_city {
        put("status_by_city", json!(true));
    }
    match record.children {
        Children::None => None,
        Children::Map => put("children", json!("map")),
        Children::Items => put("children", json!("items")),
        Children::Table => put("children", json!("table")),
    };
    if let Some(name) = &record.name {
        put("name", json!(name));
    }
    if let Some(code) = &record.code {
        put("code", json!(code));
    }
    if let Some(holder) = &record.holder {
        put("holder", json!(holder));
    }
    if !record.keys.is_empty() {
        put("keys", record.keys.iter().map(key_json).collect());
    }
    if let Some(city) = &record.administered_by {
        put("administered_by", json!(city.as_str()));
    }
    if !record.services.is_empty() {
        put("services", services_json(&record.services));
    }
    if !record.commitments.is_empty() {
        put("commitments", commitments_json(&record.commitments));
    }
    if let Some(quota) = record.quota {
        put("quota", number(quota));
    }
    if let Some(allocation) = &record.allocation {
        put(
            "allocation",
            json!({
                "next_million": number(allocation.next_million), "open_million": allocation.open_million.map(number),
                "next_thousand": number(allocation.next_thousand),
            }),
        );
    }
    if let Some(table) = &record.table {
        put(
            "table",
            json!({
                "root": hex(&table.root), "depth": table.depth, "version": number(table.version), "overrides": number(table.overrides),
                "digest": hex(&table.digest), "count": number(table.count),
            }),
        );
    }
    if !record.claims.is_empty() {
        put("claims", json!(record.claims));
    }
    if !record.parameters.is_empty() {
        let named = Parameters::NAMES.iter().zip(&record.parameters);
        put("parameters", named.map(|((name, ..), value)| ((*name).to_owned(), number(*value))).collect::<Map<_, _>>().into());
    }
    if let Some(purpose) = record.purpose {
        put("purpose", json!(purpose.name()));
    }
    if let Some(serials) = record.serials {
        put("serials", number(serials));
    }
    if record.test {
        put("test", json!(true));
    }
    Value::Object(fields)
}

fn key_json(key: &crate::record::KeyEntry) -> Value {
    let encoded: &Hash = &key.key;
    json!({
        "suite": key.suite as u8, "purpose": key.purpose.name(), "key": hex(encoded), "from": number(key.from), "until": key.until.map(number),
    })
}

fn number(value: u64) -> Value {
    Value::String(value.to_string())
}
