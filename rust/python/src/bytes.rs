//! Bytes that Python gives: anything with the buffer protocol, readable while the interpreter is released.
use pyo3::buffer::PyBuffer;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyString;
use std::ops::Deref;

use crate::error::{to_py, MalformedInput};
use cityid_core::error::Error;

/// Bytes for reading: `bytes` are borrowed (the object is kept alive), other buffers copied once.
pub enum Bytes {
    /// A `bytes` object, or a copy of a `bytearray`.
    Backed(PyBackedBytes),
    /// A copy of another buffer.
    Owned(Vec<u8>),
}

impl<'a, 'py> FromPyObject<'a, 'py> for Bytes {
    type Error = PyErr;

    fn extract(object: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        if let Ok(backed) = object.extract::<PyBackedBytes>() {
            return Ok(Bytes::Backed(backed));
        }
        let buffer = PyBuffer::<u8>::get(&object)?;
        Ok(Bytes::Owned(buffer.to_vec(object.py())?))
    }
}

/// Text that somebody sent: a lone surrogate, which JSON can carry and UTF-8 cannot, becomes U+FFFD, so that what parses the text
/// refuses it by name and position, one row at a time.
pub struct Text(pub String);

impl<'a, 'py> FromPyObject<'a, 'py> for Text {
    type Error = PyErr;

    fn extract(object: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        Ok(Text(object.cast::<PyString>()?.to_string_lossy().into_owned()))
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Bytes::Backed(bytes) => bytes,
            Bytes::Owned(bytes) => bytes,
        }
    }
}

impl Bytes {
    /// Exactly `N` bytes.
    pub fn fixed<const N: usize>(&self, what: &str) -> PyResult<[u8; N]> {
        self.deref().try_into().map_err(|_| MalformedInput::new_err(format!("{what} of {} bytes where {N} are needed", self.len())))
    }
}

/// A buffer of 32-byte digests, one after the other.
pub fn digests(bytes: &[u8]) -> PyResult<Vec<[u8; 32]>> {
    if !bytes.len().is_multiple_of(32) {
        return Err(to_py(Error::malformed(format!("{} bytes of digests, not a multiple of 32", bytes.len()))));
    }
    Ok(bytes.chunks_exact(32).map(|chunk| std::array::from_fn(|index| chunk[index])).collect())
}

/// A list of 32-byte digests.
pub fn digest_list(items: &[Bytes], what: &str) -> PyResult<Vec<[u8; 32]>> {
    items.iter().map(|item| item.fixed(what)).collect()
}
