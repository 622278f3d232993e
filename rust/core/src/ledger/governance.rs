//! What the member cities decide together (P58 to P70).
use super::execute::{Context, Output};
use super::operation::Change;
use crate::code::City;
use crate::error::Error;

/// P58.
pub fn propose(context: &mut Context<'_, '_, '_>, city: City, change: &Change) -> Result<Output, Error> {
    super::unfinished(context, &(city, change))
}

/// P59.
pub fn vote(context: &mut Context<'_, '_, '_>, city: City, proposal: u64) -> Result<Output, Error> {
    super::unfinished(context, &(city, proposal))
}

/// P60.
pub fn withdraw(context: &mut Context<'_, '_, '_>, city: City, proposal: u64) -> Result<Output, Error> {
    super::unfinished(context, &(city, proposal))
}
