//! Profiles of cities, organisations and categories (P52). Those of items are changed by P26.
use super::execute::{check_version, Context, Output};
use super::operation::{Commitments, Holder, Services};
use super::subject::check_live;
use crate::code::Code;
use crate::error::Error;
use crate::hash::Hash;
use crate::map_key::MapKey;

/// P52.
pub fn update(
    context: &mut Context<'_, '_, '_>,
    subject: &Code,
    expected_version: u64,
    commitments: &Commitments,
    services: &Services,
    schema: Option<Hash>,
) -> Result<Output, Error> {
    let (key, holder) = match subject {
        Code::City { city } => (MapKey::City(*city), Holder { city: *city, org: None }),
        Code::Org { city, org } => (MapKey::Organisation(*city, *org), Holder { city: *city, org: Some(*org) }),
        Code::Category { city, org, category } => (MapKey::Category(*city, *org, *category), Holder { city: *city, org: *org }),
        Code::Item { .. } | Code::Foreign(_) => {
            return Err(Error::rule("unknown_code", format!("{subject} is no city, organisation or category; change an item as an item")));
        }
    };
    if schema.is_some() && !matches!(subject, Code::Category { .. }) {
        return Err(Error::rule("unknown_code", format!("{subject} is no category, and only a category has a schema of its items")));
    }
    let Some(entry) = context.overlay.get(&key)? else {
        return Err(Error::rule("unknown_code", format!("{subject} is not registered; check the code")));
    };
    context.authorise_holder(&holder)?;
    check_live(&entry.record, subject)?;
    check_version(&entry, expected_version)?;
    context.check_profile(commitments, services)?;
    context.overlay.update(&key, &entry, |record| {
        record.commitments.clone_from(commitments);
        record.services.clone_from(services);
        record.schema = schema;
    })?;
    Ok(Output::None)
}
