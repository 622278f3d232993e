//! Histories and audits: versions of records, pages of proven records, whole blocks.
use crate::answer::{milliseconds, Answer, Trust, Verdict};
use crate::bytes::{digests, Bytes, Text};
use crate::error::{to_py, MalformedInput};
use cityid_core::answer::{claimed, Options};
use cityid_core::audit::{self, Block};
use cityid_core::code::{Code, Subject};
use cityid_core::hash::Hash;
use cityid_core::history::{self, Held, LoggedHeader};
use cityid_core::listing::Prefix;
use cityid_core::wire::Decoder;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Every version of a record, and what proves them (P74). Nothing in it is believed before `verify`.
#[pyclass(frozen, module = "cityid")]
pub struct History(history::History);

#[pymethods]
impl History {
    /// `headers`: (header, inclusion path of 32 bytes a hash) of heights at which versions were made, ascending.
    #[new]
    fn new(answer: Option<&Answer>, versions: Vec<Bytes>, headers: Vec<(Bytes, Bytes)>) -> PyResult<History> {
        let logged = |(header, path): &(Bytes, Bytes)| Ok(LoggedHeader { header: header.to_vec(), path: digests(path)? });
        let history = history::History {
            answer: answer.map(|answer| answer.0.clone()),
            versions: versions.iter().map(|version| version.to_vec()).collect(),
            headers: headers.iter().map(logged).collect::<PyResult<_>>()?,
        };
        history.check_limits().map_err(to_py)?;
        Ok(History(history))
    }

    #[staticmethod]
    fn from_bytes(data: Bytes) -> PyResult<History> {
        history::History::decode(&data).map(History).map_err(to_py)
    }

    #[staticmethod]
    fn from_json(text: &str) -> PyResult<History> {
        history::History::from_json(text).map(History).map_err(to_py)
    }

    /// A history and the parts that continue it, as one.
    #[staticmethod]
    fn join(parts: Vec<Bound<'_, History>>) -> PyResult<History> {
        history::History::join(parts.iter().map(|part| part.get().0.clone())).map(History).map_err(to_py)
    }

    fn to_bytes<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.encode())
    }

    fn to_json(&self) -> String {
        self.0.to_json()
    }

    #[getter]
    fn answer(&self) -> Option<Answer> {
        self.0.answer.clone().map(Answer)
    }

    #[pyo3(signature = (trust, *, code=None, now=None, max_age=None, min_height=None))]
    fn verify(
        &self,
        py: Python<'_>,
        trust: &Trust,
        code: Option<Text>,
        now: Option<f64>,
        max_age: Option<f64>,
        min_height: Option<u64>,
    ) -> PyResult<Told> {
        let options = Options {
            code: code.as_ref().map(|code| code.0.as_str()),
            now_ms: milliseconds(now, "a time")?,
            max_age_ms: milliseconds(max_age, "an age")?,
            min_height,
            ..Options::default()
        };
        let trust = &trust.0;
        Ok(Told(Mutex::new(py.detach(|| history::verify(&self.0, trust, &options)))))
    }
}

/// What a history says under a trust.
#[pyclass(frozen, module = "cityid._native")]
pub struct Told(Mutex<history::Told>);

impl Told {
    fn told(&self) -> MutexGuard<'_, history::Told> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A version's number, or the reason why none is known; both missing: nothing was registered yet.
fn held(held: &Held<'_>) -> (Option<u64>, Option<String>) {
    match held {
        Held::Version(version) => (Some(version.record.version), None),
        Held::NotYet => (None, None),
        Held::Unknown(why) => (None, Some(why.clone())),
    }
}

#[pymethods]
impl Told {
    #[getter]
    fn verdict(&self) -> Verdict {
        Verdict(self.told().verdict.clone())
    }

    #[getter]
    fn complete(&self) -> bool {
        self.told().is_complete()
    }

    /// (version, height at which it was made, hash) of the version that is missing next.
    #[getter]
    fn missing<'py>(&self, py: Python<'py>) -> Option<(u64, u64, Bound<'py, PyBytes>)> {
        let told = self.told();
        let (version, height) = told.missing()?;
        let hash = told.versions.last()?.record.previous?;
        Some((version, height, PyBytes::new(py, &hash)))
    }

    /// (version, height, time in milliseconds or None, record as JSON) of each, newest first.
    #[getter]
    fn versions(&self) -> Vec<(u64, u64, Option<u64>, String)> {
        let told = self.told();
        let row = |version: &history::Version| {
            (version.record.version, version.record.height, version.time_ms, version.record.to_json().to_string())
        };
        told.versions.iter().map(row).collect()
    }

    fn at(&self, height: u64) -> (Option<u64>, Option<String>) {
        held(&self.told().at(height))
    }

    fn at_time(&self, time_ms: u64) -> (Option<u64>, Option<String>) {
        held(&self.told().at_time(time_ms))
    }

    fn extend(&self, py: Python<'_>, part: &History) -> PyResult<()> {
        py.detach(|| self.told().extend(&part.0)).map_err(to_py)
    }

    fn to_json(&self) -> String {
        self.told().to_json().to_string()
    }
}

/// (map key, encoded record) of the record that decides in an answer; nothing is verified.
#[pyfunction]
pub fn deciding_record<'py>(py: Python<'py>, answer: &Answer) -> PyResult<Option<(Bound<'py, PyBytes>, Bound<'py, PyBytes>)>> {
    let found = claimed(&answer.0).map_err(to_py)?;
    let Some(record) = found.record else { return Ok(None) };
    let code = match (&found.code, Subject::parse(&answer.0.subject, None).map_err(to_py)?) {
        (Some(code), _) => Code::parse(code, None).map_err(to_py)?,
        (None, Subject::Code(code)) => code,
        (None, Subject::Alias(_) | Subject::Named(_)) => return Ok(None),
    };
    Ok(Some((PyBytes::new(py, &history::key_of(&code)), PyBytes::new(py, &record.encode()))))
}

/// The record with a tagged hash that a height wrote under a key, from the changes that the store keeps.
#[pyfunction]
pub fn find_version<'py>(py: Python<'py>, changes: Bytes, key: Bytes, hash: Bytes) -> PyResult<Option<Bound<'py, PyBytes>>> {
    let hash: Hash = hash.fixed("a hash")?;
    let found = py.detach(|| history::find_version(&changes, &key, &hash)).map_err(to_py)?;
    Ok(found.map(|record| PyBytes::new(py, record)))
}

/// A block as auditors get it: canonical CBOR.
#[pyfunction]
pub fn encode_audit_block<'py>(
    py: Python<'py>,
    header: Bytes,
    certificate: Bytes,
    receipts: Bytes,
    batches: Vec<Bytes>,
) -> Bound<'py, PyBytes> {
    let batches = batches.iter().map(|batch| &batch[..]).collect();
    let block = Block { header: &header, certificate: &certificate, receipts: &receipts, batches };
    PyBytes::new(py, &block.encode())
}

/// Records of one state with their histories.
#[pyclass(frozen, module = "cityid._native")]
pub struct AuditPage(pub audit::Page);

#[pymethods]
impl AuditPage {
    #[staticmethod]
    fn from_bytes(data: Bytes) -> PyResult<AuditPage> {
        audit::Page::decode(&data).map(AuditPage).map_err(to_py)
    }

    fn to_bytes<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.encode())
    }

    /// (header, root of the log that it ends, entries): each entry (key, code or None, encoded versions, the present one first).
    #[allow(clippy::type_complexity)]
    fn verify<'py>(
        &self,
        py: Python<'py>,
        trust: &Trust,
    ) -> PyResult<(Bound<'py, PyBytes>, Bound<'py, PyBytes>, Vec<(Bound<'py, PyBytes>, Option<String>, Bound<'py, PyList>)>)> {
        let trust = &trust.0;
        let (header, entries) = py.detach(|| self.0.verify(trust)).map_err(to_py)?;
        let root = self.0.block.log_root(header.height).map_err(to_py)?;
        let entries = entries
            .into_iter()
            .map(|entry| {
                let versions = PyList::new(py, entry.versions.iter().map(|(_, bytes)| PyBytes::new(py, bytes)))?;
                Ok((PyBytes::new(py, &entry.key), entry.code, versions))
            })
            .collect::<PyResult<_>>()?;
        Ok((PyBytes::new(py, &self.0.block.header), PyBytes::new(py, &root), entries))
    }
}

/// Follows consecutive blocks from a height on.
#[pyclass(frozen, module = "cityid._native")]
pub struct Auditor {
    inner: Mutex<audit::Auditor>,
    prefix: Prefix,
}

#[pymethods]
impl Auditor {
    /// `peaks`: the complete subtrees of the log below the first height; `sets`: canonical validator sets.
    #[new]
    fn new(genesis_hash: Bytes, first: u64, peaks: Bytes, sets: Vec<Bytes>, prefix: &str) -> PyResult<Auditor> {
        let sets: Vec<&[u8]> = sets.iter().map(|set| &set[..]).collect();
        let inner = audit::Auditor::new(genesis_hash.fixed("a genesis hash")?, first, digests(&peaks)?, &sets).map_err(to_py)?;
        Ok(Auditor { inner: Mutex::new(inner), prefix: Prefix::parse(prefix).map_err(to_py)? })
    }

    /// Checks a CBOR sequence of the next blocks; what each did to codes under the prefix, as JSON.
    fn blocks(&self, py: Python<'_>, data: Bytes) -> PyResult<Vec<String>> {
        py.detach(|| {
            let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
            let mut decoder = Decoder::new(&data);
            let mut told = Vec::new();
            while !decoder.is_at_end() {
                let block = Block::decode_next(&mut decoder)?;
                told.push(inner.block(&block, &self.prefix)?.to_string());
            }
            Ok(told)
        })
        .map_err(to_py)
    }

    /// (size, root) of the log up to the last block.
    #[getter]
    fn log<'py>(&self, py: Python<'py>) -> (u64, Bound<'py, PyBytes>) {
        let (size, root) = self.inner.lock().unwrap_or_else(PoisonError::into_inner).log();
        (size, PyBytes::new(py, &root))
    }
}

/// A prefix of codes, in upper case; CodeError when it is none.
#[pyfunction]
pub fn parse_prefix(text: &str) -> PyResult<String> {
    Ok(Prefix::parse(text).map_err(to_py)?.as_str().to_owned())
}

/// Whether a canonical code is under a prefix.
#[pyfunction]
pub fn is_under(prefix: &str, code: &str) -> PyResult<bool> {
    Ok(Prefix::parse(prefix).map_err(to_py)?.contains(code))
}

/// Refuses more keys than a page takes.
pub fn check_keys(count: usize) -> PyResult<()> {
    if count > audit::MAX_PAGE_RECORDS {
        return Err(MalformedInput::new_err(format!("{count} keys for one page; it takes {}", audit::MAX_PAGE_RECORDS)));
    }
    Ok(())
}
