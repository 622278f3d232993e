//! Snapshots of the ledger: written chunk by chunk, loaded chunk by chunk, installed at once (P79 to P83).
use crate::answer::Genesis;
use crate::bytes::Bytes;
use crate::error::{to_py, RuleViolation};
use crate::ledger::{set_rows, Ledger};
use crate::random_seed;
use cityid_core::answer::CertifiedHeader;
use cityid_core::block::header_hash;
use cityid_core::error::Error;
use cityid_core::hash::Hash;
use cityid_core::ledger::snapshot;
use cityid_core::vote::CommitCertificate;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A snapshot that is being written.
#[pyclass(frozen, module = "cityid._native")]
pub struct SnapshotWriter(Mutex<snapshot::Writer>);

/// A snapshot that is being loaded.
#[pyclass(frozen, module = "cityid._native")]
pub struct SnapshotLoader {
    inner: Mutex<Stage>,
    #[pyo3(get)]
    height: u64,
    #[pyo3(get)]
    size_bytes: u64,
    header: Vec<u8>,
    certificate: Vec<u8>,
    chunks: Vec<(Hash, u64)>,
    walk: Vec<(Vec<u8>, Vec<u8>)>,
    validators: cityid_core::block::ValidatorSet,
}

/// How far a loader is.
enum Stage {
    Loading(Box<snapshot::Loader>),
    Ready(Box<snapshot::Ready>),
    /// Installed or refused.
    Spent,
}

/// (digest, bytes).
type Chunk<'py> = (Bound<'py, PyBytes>, Bound<'py, PyBytes>);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SnapshotWriter {
    /// Begins with the last committed height; `walk` has header and commit certificate of every set change.
    pub fn begin(ledger: &cityid_core::ledger::Ledger, walk: &[(Bytes, Bytes)]) -> Result<SnapshotWriter, Error> {
        let mut blocks = Vec::with_capacity(walk.len());
        for (header, certificate) in walk {
            let certificate = CommitCertificate::decode(certificate)?;
            let path = ledger.inclusion(certificate.height, certificate.height + 1)?;
            blocks.push(CertifiedHeader::from_certificate(header.to_vec(), path, &certificate));
        }
        ledger.write_snapshot(blocks).map(|writer| SnapshotWriter(Mutex::new(writer)))
    }
}

#[pymethods]
impl SnapshotWriter {
    #[getter]
    fn height(&self) -> u64 {
        lock(&self.0).height()
    }

    /// (SHA-256, bytes) of the next chunk, or None after the last.
    fn next_chunk<'py>(&self, py: Python<'py>, ledger: &Ledger) -> PyResult<Option<Chunk<'py>>> {
        let chunk = py.detach(|| lock(&self.0).next_chunk(&ledger.0)).map_err(to_py)?;
        Ok(chunk.map(|(hash, bytes)| (PyBytes::new(py, &hash), PyBytes::new(py, &bytes))))
    }

    /// The manifest of the chunks that were written.
    fn manifest<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &lock(&self.0).manifest().encode())
    }
}

impl SnapshotLoader {
    /// What `finish` found good, once.
    pub fn take(&self) -> PyResult<snapshot::Ready> {
        match std::mem::replace(&mut *lock(&self.inner), Stage::Spent) {
            Stage::Ready(ready) => Ok(*ready),
            Stage::Loading(_) | Stage::Spent => Err(spent()),
        }
    }
}

fn spent() -> PyErr {
    RuleViolation::new_err(("spent", "this snapshot is not finished, or was installed or refused; begin again with its manifest"))
}

#[pymethods]
impl SnapshotLoader {
    #[new]
    fn new(py: Python<'_>, genesis: &Genesis, manifest: Bytes) -> PyResult<SnapshotLoader> {
        let seed = random_seed()?;
        let loader = py.detach(|| snapshot::Loader::new(&genesis.0, &seed, &manifest)).map_err(to_py)?;
        let listed = loader.manifest();
        let height = loader.header().height;
        let walk = listed.walk.iter().scan(None, |before: &mut Option<cityid_core::block::ValidatorSet>, step| {
            let set = before.replace(step.next.clone());
            Some((step.block.clone(), set))
        });
        let mut certificates = Vec::new();
        for (block, set) in walk {
            let set = match set {
                Some(set) => set,
                None => genesis.0.validators().map_err(to_py)?,
            };
            let at = cityid_core::block::Header::decode(&block.header).map_err(to_py)?.height;
            let certificate = block.certificate(at, &set).map_err(to_py)?;
            certificates.push((block.header, certificate.encode()));
        }
        let certificate = listed.block.certificate(height, loader.validators()).map_err(to_py)?.encode();
        Ok(SnapshotLoader {
            height,
            size_bytes: listed.size(),
            header: listed.block.header.clone(),
            certificate,
            chunks: listed.chunks.iter().map(|chunk| (chunk.hash, chunk.size)).collect(),
            walk: certificates,
            validators: loader.validators().clone(),
            inner: Mutex::new(Stage::Loading(Box::new(loader))),
        })
    }

    #[getter]
    fn header<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.header)
    }

    #[getter]
    fn header_hash<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &header_hash(&self.header))
    }

    #[getter]
    fn certificate<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.certificate)
    }

    /// (city, consensus key) of who decided the height, ascending.
    #[getter]
    fn validators<'py>(&self, py: Python<'py>) -> Vec<(String, Bound<'py, PyBytes>)> {
        set_rows(py, &self.validators)
    }

    /// (SHA-256, length) of every chunk, in order.
    #[getter]
    fn chunks<'py>(&self, py: Python<'py>) -> Vec<(Bound<'py, PyBytes>, u64)> {
        self.chunks.iter().map(|(hash, size)| (PyBytes::new(py, hash), *size)).collect()
    }

    /// (header, commit certificate) of every set change below the height, ascending.
    #[getter]
    fn walk<'py>(&self, py: Python<'py>) -> Vec<Chunk<'py>> {
        self.walk.iter().map(|(header, certificate)| (PyBytes::new(py, header), PyBytes::new(py, certificate))).collect()
    }

    /// Takes the next chunk.
    fn add(&self, py: Python<'_>, chunk: Bytes) -> PyResult<()> {
        py.detach(|| match &mut *lock(&self.inner) {
            Stage::Loading(loader) => loader.add(&chunk).map_err(to_py),
            Stage::Ready(_) | Stage::Spent => Err(spent()),
        })
    }

    /// Checks the whole of it; `Ledger.install` comes next.
    fn finish(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| {
            let mut stage = lock(&self.inner);
            match std::mem::replace(&mut *stage, Stage::Spent) {
                Stage::Loading(loader) => {
                    *stage = Stage::Ready(Box::new(loader.finish().map_err(to_py)?));
                    Ok(())
                }
                Stage::Ready(_) | Stage::Spent => Err(spent()),
            }
        })
    }
}
