//! Transfers of items and ranges, accepted by the receiver (P56, P57).
use super::execute::{Context, Output};
use super::operation::{Holder, Target};
use crate::error::Error;

/// P56.
pub fn offer(context: &mut Context<'_, '_, '_>, target: &Target, expected_version: u64, to: Option<Holder>) -> Result<Output, Error> {
    super::unfinished(context, &(target, expected_version, to))
}

/// P57.
pub fn accept(context: &mut Context<'_, '_, '_>, target: &Target, expected_version: u64) -> Result<Output, Error> {
    super::unfinished(context, &(target, expected_version))
}
