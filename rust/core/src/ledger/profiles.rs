//! Profiles of cities, organisations and categories (P52).
use super::execute::{Context, Output};
use super::operation::{Commitments, Services};
use crate::code::Code;
use crate::error::Error;
use crate::hash::Hash;

/// P52.
pub fn update(
    context: &mut Context<'_, '_, '_>,
    subject: &Code,
    expected_version: u64,
    commitments: &Commitments,
    services: &Services,
    schema: Option<Hash>,
) -> Result<Output, Error> {
    super::unfinished(context, &(subject, expected_version, commitments, services, schema))
}
