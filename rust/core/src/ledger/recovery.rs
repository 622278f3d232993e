//! Recovery of a subject by its parent, after a delay (P54, P55).
use super::execute::{Context, Output};
use super::operation::KeyProof;
use crate::code::Code;
use crate::error::Error;

/// P54.
pub fn start(context: &mut Context<'_, '_, '_>, subject: &Code, expected_version: u64, keys: &[KeyProof]) -> Result<Output, Error> {
    super::unfinished(context, &(subject, expected_version, keys))
}

/// P55.
pub fn end(context: &mut Context<'_, '_, '_>, subject: &Code, expected_version: u64, cancel: bool) -> Result<Output, Error> {
    super::unfinished(context, &(subject, expected_version, cancel))
}
