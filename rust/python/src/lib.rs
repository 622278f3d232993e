//! `cityid._native`: the Python face of core and consensus. Borrow, detach, call, wrap; no logic of its own.
use pyo3::prelude::*;

pub mod error;

#[pymodule]
fn _native(_module: &Bound<'_, PyModule>) -> PyResult<()> {
    Ok(())
}
