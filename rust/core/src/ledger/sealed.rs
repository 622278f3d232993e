//! Sealed ranges and the overrides of their items (P43 to P47).
use super::execute::{Context, Output};
use super::operation::{Holder, NewItem, NewTable, Range, StorageReceipt};
use crate::code::Category;
use crate::error::Error;
use crate::table::TableProof;

/// P46.
pub fn seal(
    context: &mut Context<'_, '_, '_>,
    range: &Range,
    expected_version: u64,
    table: &NewTable,
    receipts: &[StorageReceipt],
) -> Result<Output, Error> {
    super::unfinished(context, &(range, expected_version, table, receipts))
}

/// P47.
pub fn override_item(
    context: &mut Context<'_, '_, '_>,
    holder: &Holder,
    category: &Category,
    item: &NewItem,
    expected_version: u64,
    proof: &TableProof,
) -> Result<Output, Error> {
    super::unfinished(context, &(holder, category, item, expected_version, proof))
}
