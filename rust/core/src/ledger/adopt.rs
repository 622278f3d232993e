//! Numbers that were given before a city joined: reserved ranges, aliases, districts (P48 to P50).
use super::execute::{Context, Output};
use super::operation::{Holder, Range};
use crate::code::{City, Code};
use crate::error::Error;

/// P48.
pub fn reserve(context: &mut Context<'_, '_, '_>, holder: &Holder, range: &Range) -> Result<Output, Error> {
    super::unfinished(context, &(holder, range))
}

/// P49.
pub fn register_aliases(context: &mut Context<'_, '_, '_>, namespace: &str, aliases: &[(String, Code)]) -> Result<Output, Error> {
    super::unfinished(context, &(namespace, aliases))
}

/// P50.
pub fn map_district(context: &mut Context<'_, '_, '_>, city: City, district: City) -> Result<Output, Error> {
    super::unfinished(context, &(city, district))
}
