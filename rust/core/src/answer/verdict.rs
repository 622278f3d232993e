//! The verdict: what an answer says, as of when, on how many cities' word, and how that was found out.
//!
//! A verdict is about registration. It says nothing about the thing that carries the code: a copied label has a valid code.
use crate::record::{Record, Status};
use crate::trust::Trust;
use serde_json::{json, Value};

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
    /// `format`, `subject`, `trust`, `header`, `certificate`, `records`, `state proof`, `table`, `age` or `history`.
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
    /// The code of `record`: the subject's, or another one of MISMATCH; of an alias the code that it stands for.
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

    /// INVALID in the step `format`.
    pub(crate) fn of_bytes_that_do_not_parse(trust: &Trust, why: &str) -> Verdict {
        let mut verdict = Verdict::new(trust.validators.len());
        verdict.step("format", false, why);
        verdict
    }

    pub(super) fn step(&mut self, name: &'static str, passed: bool, detail: impl Into<String>) {
        self.steps.push(Step { name, passed, detail: detail.into() });
    }

    /// The JSON form: 64-bit integers as strings, the record as [`Record::to_json`] shows it.
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
            "record": self.record.as_ref().map(Record::to_json),
        })
    }
}
