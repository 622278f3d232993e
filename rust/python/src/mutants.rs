//! Planting bugs, in builds that exist for nothing else.
use crate::error::to_py;
use cityid_core::mutants::{self, Mutant};
use pyo3::prelude::*;

/// Plants the bug of this name in this process; with None, none is planted any more.
#[pyfunction]
#[pyo3(signature = (name))]
pub fn plant(name: Option<&str>) -> PyResult<()> {
    mutants::plant(name.map(Mutant::parse).transpose().map_err(to_py)?);
    Ok(())
}
