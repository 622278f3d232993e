//! C2SP checkpoints and cosignatures.
use crate::bytes::Bytes;
use crate::error::{to_py, MalformedInput};
use cityid_core::checkpoint::{self, Checkpoint, Cosignature, CosignerKey, SignatureLine};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

fn text(bytes: &[u8]) -> PyResult<&str> {
    std::str::from_utf8(bytes).map_err(|_| MalformedInput::new_err("a checkpoint body is UTF-8 text"))
}

/// The three lines of a checkpoint.
#[pyfunction]
pub fn checkpoint_body<'py>(py: Python<'py>, origin: &str, size: u64, root: Bytes) -> PyResult<Bound<'py, PyBytes>> {
    let checkpoint = Checkpoint::new(origin, size, root.fixed("a root")?).map_err(to_py)?;
    Ok(PyBytes::new(py, checkpoint.body().as_bytes()))
}

/// What a cosigner signs; `time_s` in seconds since 1970.
#[pyfunction]
pub fn cosignature_message<'py>(py: Python<'py>, body: Bytes, time_s: u64) -> PyResult<Bound<'py, PyBytes>> {
    Ok(PyBytes::new(py, &checkpoint::cosignature_message(text(&body)?, time_s)))
}

/// The signature line of a timestamped cosignature.
#[pyfunction]
pub fn cosignature_line(name: &str, public_key: Bytes, time_s: u64, signature: Bytes) -> PyResult<String> {
    let key = CosignerKey::new(name, public_key.fixed("a public key")?).map_err(to_py)?;
    let cosignature = Cosignature { time: time_s, signature: signature.fixed("a signature")? };
    Ok(key.line(&cosignature).text())
}

/// A signed note: the body, an empty line, the signature lines.
#[pyfunction]
pub fn checkpoint_note(body: Bytes, lines: Vec<String>) -> PyResult<String> {
    let lines: Vec<SignatureLine> = lines.iter().map(|line| SignatureLine::parse(line)).collect::<Result<_, _>>().map_err(to_py)?;
    Ok(checkpoint::note(text(&body)?, &lines))
}

/// The verifier key of a cosigner in the text form that C2SP tools take.
#[pyfunction]
pub fn cosignature_vkey(name: &str, public_key: Bytes) -> PyResult<String> {
    Ok(CosignerKey::new(name, public_key.fixed("a public key")?).map_err(to_py)?.verifier_key())
}
