//! Genesis, trust, answers and their verifier.
use crate::bytes::{Bytes, Text};
use crate::error::{to_py, MalformedInput};
use crate::ledger::{parameter_dict, set_rows};
use cityid_core::answer::{self, CertifiedHeader, Options};
use cityid_core::block::{Header, ValidatorSet};
use cityid_core::code::City;
use cityid_core::disclosure;
use cityid_core::genesis;
use cityid_core::record::Status;
use cityid_core::trust;
use cityid_core::vote::CommitCertificate;
use cityid_core::wire::Encoder;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use std::io::Read;

use crate::bytes::digests;

/// The first state of a network.
#[pyclass(frozen, module = "cityid")]
pub struct Genesis(pub genesis::Genesis);

#[pymethods]
impl Genesis {
    #[staticmethod]
    fn from_json(text: &str) -> PyResult<Genesis> {
        genesis::Genesis::from_json(text).map(Genesis).map_err(to_py)
    }

    fn to_json(&self) -> String {
        self.0.to_json()
    }

    #[getter]
    fn hash<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.hash())
    }

    #[getter]
    fn name(&self) -> &str {
        &self.0.name
    }

    #[getter]
    fn test(&self) -> bool {
        self.0.test
    }

    #[getter]
    fn time_ms(&self) -> u64 {
        self.0.time_ms
    }

    /// Six digits each, ascending: the validators in their order.
    #[getter]
    fn cities(&self) -> Vec<String> {
        self.0.cities.iter().map(|city| city.city.as_str().to_owned()).collect()
    }

    /// Limits and intervals by name (docs/protocol.md, P6).
    fn parameters<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        parameter_dict(py, &self.0.parameters)
    }

    /// Name and public keys of a founding city; CodeError when it is none.
    fn city<'py>(&self, py: Python<'py>, city: &str) -> PyResult<Bound<'py, PyDict>> {
        let wanted = City::parse(city).map_err(to_py)?;
        let founding = self.0.cities.iter().find(|founding| founding.city == wanted);
        let founding = founding.ok_or_else(|| crate::error::CodeError::new_err(format!("{city} is no city of this genesis")))?;
        let entry = PyDict::new(py);
        entry.set_item("city", city)?;
        entry.set_item("name", &founding.name)?;
        entry.set_item("consensus", PyBytes::new(py, &founding.consensus))?;
        entry.set_item("checkpoint", PyBytes::new(py, &founding.checkpoint))?;
        entry.set_item("tls", PyBytes::new(py, &founding.tls))?;
        let transaction: Vec<_> = founding.transaction.iter().map(|key| PyBytes::new(py, key)).collect();
        entry.set_item("transaction", transaction)?;
        Ok(entry)
    }
}

/// Genesis hash, validator set, height, time: all that a verifier believes.
#[pyclass(frozen, module = "cityid")]
pub struct Trust(pub trust::Trust);

#[pymethods]
impl Trust {
    /// Reads a trust file or a genesis file.
    #[staticmethod]
    fn load(path: std::path::PathBuf) -> PyResult<Trust> {
        // One byte more than a trust file may have is read, whatever the file says of its size: a device or pipe says 0.
        let mut data = Vec::new();
        std::fs::File::open(&path)?.take(genesis::MAX_FILE as u64 + 1).read_to_end(&mut data)?;
        if data.len() > genesis::MAX_FILE {
            return Err(MalformedInput::new_err(format!(
                "a trust file of more than {} bytes, which is the limit; is it the right file?",
                genesis::MAX_FILE
            )));
        }
        let text =
            std::str::from_utf8(&data).map_err(|_| MalformedInput::new_err("a trust file that is not UTF-8; is it the right file?"))?;
        Trust::from_json(text)
    }

    #[staticmethod]
    fn from_genesis(path: std::path::PathBuf) -> PyResult<Trust> {
        Trust::load(path)
    }

    #[staticmethod]
    fn from_json(text: &str) -> PyResult<Trust> {
        trust::Trust::from_json(text).map(Trust).map_err(to_py)
    }

    fn to_json(&self) -> String {
        self.0.to_json()
    }

    /// Trust at a later header that the same validators certified; CertificateInvalid otherwise. `log_path` has 32 bytes a hash,
    /// `next_set` is the next validator set in its canonical bytes, where the header names another one (P75).
    #[pyo3(signature = (header, log_path, certificate, next_set=None))]
    fn advance(&self, py: Python<'_>, header: Bytes, log_path: Bytes, certificate: Bytes, next_set: Option<Bytes>) -> PyResult<Trust> {
        let log_path = digests(&log_path)?;
        py.detach(|| {
            let certificate = CommitCertificate::decode(&certificate)?;
            let next = next_set.map(|set| ValidatorSet::decode(&set)).transpose()?;
            self.0.advance(&CertifiedHeader::from_certificate(header.to_vec(), log_path, &certificate), next.as_ref())
        })
        .map(Trust)
        .map_err(to_py)
    }

    /// Six words for people to compare.
    #[getter]
    fn words(&self) -> String {
        self.0.words()
    }

    #[getter]
    fn name(&self) -> &str {
        &self.0.name
    }

    #[getter]
    fn genesis_hash<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.genesis)
    }

    #[getter]
    fn height(&self) -> u64 {
        self.0.height
    }

    #[getter]
    fn time_ms(&self) -> u64 {
        self.0.time_ms
    }

    #[getter]
    fn validators<'py>(&self, py: Python<'py>) -> Vec<(String, Bound<'py, PyBytes>)> {
        set_rows(py, &self.0.validators)
    }

    /// The canonical bytes of its validator set, whose hash headers carry.
    #[getter]
    fn validator_set<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.validators.encode())
    }

    #[getter]
    fn test(&self) -> bool {
        self.0.test
    }
}

/// What a gateway returns about a code: self-contained, and nothing in it is believed before `verify`.
#[pyclass(frozen, module = "cityid")]
pub struct Answer(pub answer::Answer);

#[pymethods]
impl Answer {
    #[staticmethod]
    fn from_bytes(data: Bytes) -> PyResult<Answer> {
        answer::Answer::decode(&data).map(Answer).map_err(to_py)
    }

    #[staticmethod]
    fn from_json(text: &str) -> PyResult<Answer> {
        answer::Answer::from_json(text).map(Answer).map_err(to_py)
    }

    fn to_bytes<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.encode())
    }

    fn to_json(&self) -> String {
        self.0.to_json()
    }

    /// The subject it claims to be about.
    #[getter]
    fn code(&self) -> &str {
        &self.0.subject
    }

    #[getter]
    fn height(&self) -> PyResult<u64> {
        Ok(Header::decode(&self.0.block.header).map_err(to_py)?.height)
    }

    #[getter]
    fn time_ms(&self) -> PyResult<u64> {
        Ok(Header::decode(&self.0.block.header).map_err(to_py)?.time_ms)
    }

    /// (kind, encoded record or None) of what it shows, in its order.
    #[getter]
    fn records<'py>(&self, py: Python<'py>) -> Vec<(&'static str, Option<Bound<'py, PyBytes>>)> {
        self.0.records.iter().map(|(kind, record)| (kind.name(), record.as_ref().map(|record| PyBytes::new(py, record)))).collect()
    }

    /// The table proof of a sealed item, CBOR.
    #[getter]
    fn table<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        let proof = self.0.table.as_ref()?;
        let mut out = Encoder::with_capacity(1_024);
        proof.encode(&mut out);
        Some(PyBytes::new(py, &out.finish()))
    }
}

/// What an answer says under a trust, as of when, on how many cities' word.
#[pyclass(frozen, module = "cityid")]
pub struct Verdict(pub answer::Verdict);

#[pymethods]
impl Verdict {
    #[getter]
    fn verdict(&self) -> &'static str {
        self.0.verdict.name()
    }

    #[getter]
    fn was(&self) -> Option<&'static str> {
        self.0.was.map(|was| was.name())
    }

    #[getter]
    fn current(&self) -> bool {
        self.0.current
    }

    #[getter]
    fn status(&self) -> Option<&'static str> {
        self.0.status.map(Status::name)
    }

    /// Time of the header, milliseconds since 1970 (UTC).
    #[getter]
    fn as_of(&self) -> Option<u64> {
        self.0.as_of_ms
    }

    #[getter]
    fn height(&self) -> Option<u64> {
        self.0.height
    }

    #[getter]
    fn signatures(&self) -> (usize, usize) {
        self.0.signatures
    }

    /// The checks in order: (name, passed, detail).
    #[getter]
    fn steps(&self) -> Vec<(&'static str, bool, String)> {
        self.0.steps.iter().map(|step| (step.name, step.passed, step.detail.clone())).collect()
    }

    #[getter]
    fn notes(&self) -> Vec<String> {
        self.0.notes.clone()
    }

    /// The canonical subject.
    #[getter]
    fn subject(&self) -> Option<&str> {
        self.0.subject.as_deref()
    }

    /// The code of the record: of an alias the code it stands for, of a MISMATCH the other one.
    #[getter]
    fn code(&self) -> Option<&str> {
        self.0.code.as_deref()
    }

    /// JSON of the record that decides.
    #[getter]
    fn record(&self) -> Option<String> {
        self.0.record.as_ref().map(|record| record.to_json().to_string())
    }

    fn to_json(&self) -> String {
        self.0.to_json().to_string()
    }

    fn __repr__(&self) -> String {
        let (count, of) = self.0.signatures;
        format!("<Verdict {} height={:?} signatures={count}/{of}>", self.0.verdict.name(), self.0.height)
    }
}

/// An answer, or its bytes.
#[derive(FromPyObject)]
pub enum AnswerLike<'py> {
    /// A parsed answer.
    Answer(Bound<'py, Answer>),
    /// CBOR.
    Bytes(Bytes),
}

#[allow(clippy::float_arithmetic)]
pub fn milliseconds(seconds: Option<f64>, what: &str) -> PyResult<Option<u64>> {
    match seconds {
        None => Ok(None),
        Some(seconds) if (0.0..9.0e15).contains(&seconds) => Ok(Some((seconds * 1000.0) as u64)),
        Some(seconds) => {
            Err(PyValueError::new_err(format!("{what} of {seconds} seconds; give seconds since 1970, or of age, not negative")))
        }
    }
}

/// Verifies an answer with nothing but a trust: pure, no network, no clock.
///
/// `now` is in seconds since 1970; without it there is no age check and no claim to be current. `max_age` is in seconds, 80 when not given.
#[pyfunction]
#[pyo3(signature = (answer, trust, *, code=None, now=None, max_age=None, min_height=None))]
pub fn verify(
    py: Python<'_>,
    answer: AnswerLike<'_>,
    trust: &Trust,
    code: Option<Text>,
    now: Option<f64>,
    max_age: Option<f64>,
    min_height: Option<u64>,
) -> PyResult<Verdict> {
    let options = Options {
        code: code.as_ref().map(|code| code.0.as_str()),
        now_ms: milliseconds(now, "a time")?,
        max_age_ms: milliseconds(max_age, "an age")?,
        min_height,
        ..Options::default()
    };
    let trust = &trust.0;
    let verdict = match &answer {
        AnswerLike::Answer(answer) => {
            let answer = &answer.get().0;
            py.detach(|| answer::verify(answer, trust, &options))
        }
        AnswerLike::Bytes(bytes) => py.detach(|| answer::verify_bytes(bytes, trust, &options)),
    };
    Ok(Verdict(verdict))
}

/// What a disclosure is worth under a trust.
#[pyclass(frozen, module = "cityid")]
pub struct Disclosed(disclosure::Disclosed);

#[pymethods]
impl Disclosed {
    /// Whether every attribute is proven, of a subject that is registered.
    #[getter]
    fn proven(&self) -> bool {
        self.0.is_proven()
    }

    /// (attribute, schema, value, result) each.
    #[getter]
    fn attributes(&self) -> Vec<(String, String, String, &'static str)> {
        let row = |shown: &disclosure::Attribute| (shown.attribute.clone(), shown.schema.clone(), shown.value.clone());
        self.0
            .attributes
            .iter()
            .map(|(shown, finding)| (row(shown), finding.name()))
            .map(|((attribute, schema, value), result)| (attribute, schema, value, result))
            .collect()
    }

    /// The verdict on the answer.
    #[getter]
    fn verdict(&self) -> Verdict {
        Verdict(self.0.verdict.clone())
    }

    fn to_json(&self) -> String {
        self.0.to_json().to_string()
    }

    fn __repr__(&self) -> String {
        format!("<Disclosed proven={} {}>", self.0.is_proven(), self.0.verdict.verdict.name())
    }
}

/// Checks disclosed attributes against the commitments in an answer, or in the one that travels with them.
#[pyfunction]
#[pyo3(signature = (disclosure, answer, trust, *, now=None, max_age=None, min_height=None))]
pub fn verify_disclosure(
    py: Python<'_>,
    disclosure: Text,
    answer: Option<AnswerLike<'_>>,
    trust: &Trust,
    now: Option<f64>,
    max_age: Option<f64>,
    min_height: Option<u64>,
) -> PyResult<Disclosed> {
    let options =
        Options { now_ms: milliseconds(now, "a time")?, max_age_ms: milliseconds(max_age, "an age")?, min_height, ..Options::default() };
    let trust = &trust.0;
    let given = match &answer {
        None => None,
        Some(AnswerLike::Answer(answer)) => Some(answer.get().0.clone()),
        Some(AnswerLike::Bytes(bytes)) => Some(answer::Answer::decode(bytes).map_err(to_py)?),
    };
    py.detach(|| disclosure::Disclosure::from_json(&disclosure.0)?.verify(given.as_ref(), trust, &options)).map(Disclosed).map_err(to_py)
}
