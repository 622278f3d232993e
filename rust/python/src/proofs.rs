//! Hashes, signatures, the log and the state map.
use crate::bytes::{digest_list, Bytes};
use crate::error::{to_py, MalformedInput};
use crate::random_seed;
use cityid_core::error::Error;
use cityid_core::hash::{self, Hash};
use cityid_core::index;
use cityid_core::signature::{self, Item, Verifier};
use cityid_core::state::{self, Proof};
use cityid_core::wire::{Decoder, Encoder};
use cityid_core::{log, wire};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};
use std::sync::{Arc, Mutex, PoisonError};

/// SHA-256 of many messages: one buffer with u32 offsets in native byte order (n + 1 of them), or a list of bytes. 32 bytes each.
#[pyfunction]
#[pyo3(signature = (data, offsets=None))]
pub fn sha256_many<'py>(py: Python<'py>, data: &Bound<'py, PyAny>, offsets: Option<Bytes>) -> PyResult<Bound<'py, PyBytes>> {
    let digests = match offsets {
        Some(offsets) => {
            let data: Bytes = data.extract()?;
            py.detach(|| hash_slices(&data, &offsets)).map_err(to_py)?
        }
        None => {
            let items: Vec<Bytes> = data.cast::<PyList>()?.iter().map(|item| item.extract()).collect::<PyResult<_>>()?;
            py.detach(|| items.iter().flat_map(|item| hash::sha256(item)).collect())
        }
    };
    Ok(PyBytes::new(py, &digests))
}

fn hash_slices(data: &[u8], offsets: &[u8]) -> Result<Vec<u8>, Error> {
    if !offsets.len().is_multiple_of(4) || offsets.is_empty() {
        return Err(Error::malformed(format!("{} bytes of offsets; give n + 1 unsigned 32-bit integers", offsets.len())));
    }
    let offsets: Vec<usize> =
        offsets.chunks_exact(4).map(|chunk| u32::from_ne_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]) as usize).collect();
    let mut digests = Vec::with_capacity((offsets.len() - 1) * 32);
    for pair in offsets.windows(2) {
        let slice = data.get(pair[0]..pair[1]).ok_or_else(|| Error::malformed("offsets that are not ascending, or beyond the data"))?;
        digests.extend_from_slice(&hash::sha256(slice));
    }
    Ok(digests)
}

/// Whether an Ed25519 signature verifies under ZIP-215. A key or signature of another length is `MalformedInput`.
#[pyfunction]
pub fn verify_signature(py: Python<'_>, public_key: Bytes, message: Bytes, signature: Bytes) -> PyResult<bool> {
    let (key, signature) = (public_key.fixed("a public key")?, signature.fixed("a signature")?);
    Ok(py.detach(|| signature::verify(&key, &message, &signature).is_ok()))
}

/// Whether an Ed25519 signature verifies under strict RFC 8032, as Go's crypto/ed25519 does it.
#[pyfunction]
pub fn verify_strict(py: Python<'_>, public_key: Bytes, message: Bytes, signature: Bytes) -> PyResult<bool> {
    let (key, signature) = (public_key.fixed("a public key")?, signature.fixed("a signature")?);
    Ok(py.detach(|| signature::verify_strict(&key, &message, &signature).is_ok()))
}

/// The verifier behind `verify_signatures`, with its cache of keys.
static VERIFIER: Mutex<Option<Verifier>> = Mutex::new(None);

/// Verifies many signatures at once, item by item with the verdicts of `verify_signature`.
#[pyfunction]
pub fn verify_signatures(py: Python<'_>, public_keys: Vec<Bytes>, messages: Vec<Bytes>, signatures: Vec<Bytes>) -> PyResult<Vec<bool>> {
    if public_keys.len() != messages.len() || messages.len() != signatures.len() {
        return Err(MalformedInput::new_err(format!(
            "{} keys, {} messages and {} signatures; give one of each an item",
            public_keys.len(),
            messages.len(),
            signatures.len()
        )));
    }
    let keys: Vec<[u8; 32]> = digest_list(&public_keys, "a public key")?;
    let signatures: Vec<[u8; 64]> = signatures.iter().map(|signature| signature.fixed("a signature")).collect::<PyResult<_>>()?;
    let seed = random_seed()?;
    let outcome = py.detach(|| {
        let items: Vec<Item<'_>> =
            keys.iter().zip(&messages).zip(&signatures).map(|((key, message), signature)| Item { key, message, signature }).collect();
        let mut verifier = VERIFIER.lock().unwrap_or_else(PoisonError::into_inner);
        verifier.get_or_insert_with(Verifier::default).verify_batch(&items, seed)
    });
    let mut verdicts = vec![true; keys.len()];
    match outcome {
        Ok(()) => {}
        Err(Error::Signature(bad)) => bad.into_iter().for_each(|position| verdicts[position as usize] = false),
        Err(other) => return Err(to_py(other)),
    }
    Ok(verdicts)
}

/// Which implementation verifies here: "avx512ifma", "avx2" or "serial".
#[pyfunction]
pub fn signature_backend() -> &'static str {
    signature::backend()
}

/// RFC 9162 leaf hash of an entry.
#[pyfunction]
pub fn leaf_hash(py: Python<'_>, data: Bytes) -> Bound<'_, PyBytes> {
    PyBytes::new(py, &log::leaf_hash(&data))
}

/// RFC 9162 root over leaf hashes.
#[pyfunction]
pub fn log_root(py: Python<'_>, leaves: Vec<Bytes>) -> PyResult<Bound<'_, PyBytes>> {
    let leaves = digest_list(&leaves, "a leaf hash")?;
    Ok(PyBytes::new(py, &py.detach(|| log::root(&leaves))))
}

/// RFC 9162 inclusion proof; None, or ProofInvalid.
#[pyfunction]
pub fn verify_inclusion(leaf_hash: Bytes, index: u64, size: u64, proof: Vec<Bytes>, root: Bytes) -> PyResult<()> {
    let proof = digest_list(&proof, "a proof hash")?;
    log::verify_inclusion(&leaf_hash.fixed("a leaf hash")?, index, size, &proof, &root.fixed("a root")?).map_err(to_py)
}

/// RFC 9162 consistency proof; None, or ProofInvalid.
#[pyfunction]
pub fn verify_consistency(size1: u64, size2: u64, proof: Vec<Bytes>, root1: Bytes, root2: Bytes) -> PyResult<()> {
    let proof = digest_list(&proof, "a proof hash")?;
    log::verify_consistency(size1, size2, &proof, &root1.fixed("a root")?, &root2.fixed("a root")?).map_err(to_py)
}

/// A map from paths to values with a provable root: key = SHA-256(path), value hash = SHA-256(value), hash rules of the jmt crate.
#[pyclass(frozen, module = "cityid")]
pub struct StateMap(index::StateMap);

#[pymethods]
impl StateMap {
    #[new]
    fn new() -> PyResult<StateMap> {
        let seed = random_seed()?;
        Ok(StateMap(index::StateMap::new(u64::from_le_bytes(std::array::from_fn(|index| seed[index])))))
    }

    /// Puts (path, value) pairs, or removes where the value is None; the new root. Of a path given twice the last pair counts.
    fn update<'py>(&self, py: Python<'py>, items: Vec<(Bytes, Option<Bytes>)>) -> PyResult<Bound<'py, PyBytes>> {
        let root = py
            .detach(|| {
                let mut last = std::collections::BTreeMap::new();
                for (path, value) in &items {
                    last.insert(hash::sha256(path), value.as_ref().map(|value| Arc::<[u8]>::from(&value[..])));
                }
                self.0.commit(self.0.candidate(last.into_iter().collect())?).map(|snapshot| snapshot.root())
            })
            .map_err(to_py)?;
        Ok(PyBytes::new(py, &root))
    }

    fn get<'py>(&self, py: Python<'py>, path: Bytes) -> Option<Bound<'py, PyBytes>> {
        self.0.current().get(&hash::sha256(&path)).map(|value| PyBytes::new(py, &value))
    }

    /// A proof of presence or absence, for `StateMap.verify`.
    fn prove<'py>(&self, py: Python<'py>, path: Bytes) -> PyResult<Bound<'py, PyBytes>> {
        let proof = self.0.current().prove(&[hash::sha256(&path)]).map_err(to_py)?;
        let mut out = Encoder::new();
        out.array(2).bytes(&proof.ops).bytes(&proof.hashes);
        Ok(PyBytes::new(py, &out.finish()))
    }

    /// None, or ProofInvalid; `value` None means absence.
    #[staticmethod]
    fn verify(root: Bytes, path: Bytes, value: Option<Bytes>, proof: Bytes) -> PyResult<()> {
        let root: Hash = root.fixed("a root")?;
        let check = || {
            let mut decoder = Decoder::new(&proof);
            decoder.array_of(2)?;
            let proof = Proof { ops: decoder.bytes(256)?.to_vec(), hashes: decoder.bytes(wire::MAX_TEXT * 64)?.to_vec() };
            decoder.end()?;
            state::verify(&root, &[(hash::sha256(&path), value.as_ref().map(|value| hash::sha256(value)))], &proof)
        };
        check().map_err(to_py)
    }

    #[getter]
    fn root<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.current().root())
    }

    fn __len__(&self) -> usize {
        self.0.current().len() as usize
    }
}
