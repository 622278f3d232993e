//! The one place where a Rust error becomes a Python exception.
//!
//! The exceptions are Python classes (`python/cityid/errors.py`), imported when first raised; each variant of the core's
//! error enum is one of them. The match has no wildcard: a new variant does not compile until it has its exception.
use cityid_core::error::Error;
use pyo3::{import_exception, PyErr};

import_exception!(cityid.errors, CertificateInvalid);
import_exception!(cityid.errors, CodeError);
import_exception!(cityid.errors, MalformedInput);
import_exception!(cityid.errors, ProofInvalid);
import_exception!(cityid.errors, RuleViolation);
import_exception!(cityid.errors, SignatureInvalid);
import_exception!(cityid.errors, StorageError);

/// The Python exception for an error of the core. Needs no attached interpreter: the exception is built when it is raised.
pub fn to_py(error: Error) -> PyErr {
    match error {
        Error::Malformed(message) => MalformedInput::new_err(message),
        Error::Code(message) => CodeError::new_err(message),
        Error::Rule { reason, message } => RuleViolation::new_err((reason, message)),
        Error::Signature(ref positions) => SignatureInvalid::new_err((positions.clone(), error.to_string())),
        Error::Proof(message) => ProofInvalid::new_err(message),
        Error::Certificate(message) => CertificateInvalid::new_err(message),
    }
}
