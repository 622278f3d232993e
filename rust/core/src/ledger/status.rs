//! Suspending, reactivating and retiring (P13, P27).
use super::execute::{check_version, Context, Output};
use super::items::item_of_code;
use super::operation::{Holder, Range, Target};
use super::overlay::Entry;
use crate::code::{City, Code};
use crate::error::Error;
use crate::map_key::MapKey;
use crate::record::{Record, Status};
use std::sync::Arc;

/// P27: sets the status of an organisation, a category, an item or a range.
pub fn set(context: &mut Context<'_, '_, '_>, target: &Target, expected_version: u64, status: Status) -> Result<Output, Error> {
    match target {
        Target::Code(Code::City { city }) => Err(Error::rule(
            "not_authorised",
            format!("the status of city {city} is decided by the member cities together, not by this operation"),
        )),
        Target::Code(Code::Org { city, org }) => {
            let subject = Holder { city: *city, org: Some(*org) };
            let key = MapKey::Organisation(*city, *org);
            let entry = existing(context, &key, &subject.code())?;
            change(context, &key, &entry, None, *city, expected_version, status)
        }
        Target::Code(code @ Code::Category { city, org, category }) => {
            let key = MapKey::Category(*city, *org, *category);
            let entry = existing(context, &key, code)?;
            change(context, &key, &entry, Some(Holder { city: *city, org: *org }), *city, expected_version, status)
        }
        Target::Code(code @ Code::Item { city, .. }) => {
            let item = item_of_code(context, code)?;
            let by_city = decide(context, &item.entry, Some(item.holder), *city, expected_version, status)?;
            item.change(context, |record| set_in(record, status, by_city))?;
            Ok(Output::None)
        }
        Target::Code(code @ Code::Foreign(_)) => Err(Error::rule("unknown_code", format!("{code} is not a code of this network"))),
        Target::Range(range) => set_range(context, range, expected_version, status),
    }
}

fn set_range(context: &mut Context<'_, '_, '_>, range: &Range, expected_version: u64, status: Status) -> Result<Output, Error> {
    match context.overlay.get(&range.key())?.filter(|entry| entry.record.holder.is_some()) {
        Some(entry) => change(context, &range.key(), &entry, None, range.city, expected_version, status),
        None => Err(Error::rule(
            "unknown_code",
            format!("nobody holds the range of {} from {} of class {} in {}", range.size, range.base, range.class, range.city),
        )),
    }
}

fn existing(context: &mut Context<'_, '_, '_>, key: &MapKey<'_>, code: &Code) -> Result<Arc<Entry>, Error> {
    context.overlay.get(key)?.ok_or_else(|| Error::rule("unknown_code", format!("{code} is not registered")))
}

/// Changes a status on behalf of the city, or of the holder where there is one that may.
fn change(
    context: &mut Context<'_, '_, '_>,
    key: &MapKey<'_>,
    entry: &Entry,
    holder: Option<Holder>,
    city: City,
    expected_version: u64,
    status: Status,
) -> Result<Output, Error> {
    let by_city = decide(context, entry, holder, city, expected_version, status)?;
    context.overlay.update(key, entry, |record| set_in(record, status, by_city))?;
    Ok(Output::None)
}

/// Writes a status and who set it.
pub fn set_in(record: &mut Record, status: Status, by_city: bool) {
    record.status = status;
    record.status_by_city = by_city && status != Status::Active;
    if status == Status::Retired {
        // Nothing is left to recover or to hand over.
        record.recovery = None;
        record.offered_to = None;
    }
}

/// Whether this change may be made, and whether it is the city that makes it.
fn decide(
    context: &mut Context<'_, '_, '_>,
    entry: &Entry,
    holder: Option<Holder>,
    city: City,
    expected_version: u64,
    status: Status,
) -> Result<bool, Error> {
    let administration = context.administration(city)?;
    let by_city = context.is_signed_by(&administration)?;
    match holder {
        Some(holder) if !by_city => context.authorise_holder(&holder)?,
        _ => context.authorise(&administration)?,
    }
    check_version(entry, expected_version)?;
    check_move(&entry.record, status, by_city)?;
    Ok(by_city)
}

/// P13: refuses a status that the present one does not lead to, and one that only the city may set.
pub fn check_move(record: &Record, status: Status, by_city: bool) -> Result<(), Error> {
    let present = record.status;
    if !present.may_become(status) {
        return Err(Error::rule("bad_transition", format!("from {} to {} is no move of the rule (P13)", present.name(), status.name())));
    }
    if record.status_by_city && !by_city {
        return Err(Error::rule("not_authorised", format!("the city made this record {}; only the city changes that", present.name())));
    }
    Ok(())
}
