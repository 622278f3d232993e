//! Transfers of items and ranges: the holder offers, the receiver accepts (P56, P57). Codes never change, holders do.
//!
//! - An offer stands until it is withdrawn or accepted, but counts only while giver and receiver may act: an offer made with stolen
//!   keys must not be accepted once the theft is known.
//! - An item that is offered carries its holder in its record from then on. Without that, its range could pass to somebody else in
//!   between, and the offer would give away what is no longer the giver's.
use super::execute::{check_version, Context, Output};
use super::items::{item_of_code, Item};
use super::operation::{Holder, Range, Target};
use super::overlay::Entry;
use super::ranges::{charge_quota, range_of, release_quota};
use super::subject::{check_live, check_settled};
use crate::code::Code;
use crate::error::Error;
use crate::record::{Record, Status};
use std::sync::Arc;

/// What changes hands, as it is now.
enum Asset {
    Item(Item),
    /// A range, its record and who holds it.
    Range(Range, Arc<Entry>, Holder),
}

impl Asset {
    fn find(context: &mut Context<'_, '_, '_>, target: &Target) -> Result<Asset, Error> {
        let range = match target {
            Target::Code(code @ Code::Item { .. }) => return item_of_code(context, code).map(Asset::Item),
            Target::Code(code) => {
                return Err(Error::rule("unknown_code", format!("{code} is no item; only items and ranges change hands")));
            }
            Target::Range(range) => range,
        };
        match context.overlay.get(&range.key())? {
            Some(entry) if entry.record.holder.is_some() => {
                let holder = Holder::parse(entry.record.holder.as_deref().unwrap_or_default())?;
                Ok(Asset::Range(*range, entry, holder))
            }
            _ => Err(Error::rule(
                "unknown_code",
                format!("nobody holds the range of {} from {} of class {} in {}", range.size, range.base, range.class, range.city),
            )),
        }
    }

    fn entry(&self) -> &Entry {
        match self {
            Asset::Item(item) => &item.entry,
            Asset::Range(_, entry, _) => entry,
        }
    }

    fn holder(&self) -> Holder {
        match self {
            Asset::Item(item) => item.holder,
            Asset::Range(_, _, holder) => *holder,
        }
    }

    fn name(&self) -> String {
        match self {
            Asset::Item(item) => item.code.text(),
            Asset::Range(range, ..) => format!("the range from {} of class {} in {}", range.base, range.class, range.city),
        }
    }

    /// Refuses what may not change hands now.
    fn check(&self, context: &mut Context<'_, '_, '_>, expected_version: u64) -> Result<(), Error> {
        let record = &self.entry().record;
        check_live(record, &self.name())?;
        check_version(self.entry(), expected_version)?;
        if record.status == Status::Suspended {
            return Err(Error::rule("suspended", format!("{} is suspended; it changes hands when it is active again", self.name())));
        }
        check_settled(record, &self.name())?;
        check_holder_settled(context, &self.holder())
    }

    fn change(&self, context: &mut Context<'_, '_, '_>, edit: impl FnOnce(&mut Record)) -> Result<(), Error> {
        match self {
            Asset::Item(item) => item.change(context, edit),
            Asset::Range(range, entry, _) => context.overlay.update(&range.key(), entry, edit),
        }
    }
}

/// P56.
pub fn offer(context: &mut Context<'_, '_, '_>, target: &Target, expected_version: u64, to: Option<Holder>) -> Result<Output, Error> {
    let asset = Asset::find(context, target)?;
    context.authorise_holder(&asset.holder())?;
    asset.check(context, expected_version)?;
    if let Some(receiver) = to {
        if context.subject(&receiver)?.is_none() {
            return Err(Error::rule("unknown_code", format!("{} is not registered; check the receiver's code", receiver.code())));
        }
    }
    let holder = match &asset {
        Asset::Item(item) if to.is_some() || !is_of_range(context, item)? => Some(item.holder),
        // Withdrawn: an item of its range's holder goes along with the range again.
        Asset::Item(_) => None,
        Asset::Range(_, _, holder) => Some(*holder),
    };
    asset.change(context, |record| {
        record.offered_to = to.map(|receiver| receiver.code().text());
        record.holder = holder.map(|holder| holder.code().text());
    })?;
    Ok(Output::None)
}

/// Whether an item's holder is also that of its range.
fn is_of_range(context: &mut Context<'_, '_, '_>, item: &Item) -> Result<bool, Error> {
    let Code::Item { city, category, serial, .. } = &item.code else { return Ok(false) };
    let range = range_of(context, *city, category.class, *serial)?;
    Ok(range.is_some_and(|(_, range)| range.record.holder == Some(item.holder.code().text())))
}

/// P57.
pub fn accept(context: &mut Context<'_, '_, '_>, target: &Target, expected_version: u64) -> Result<Output, Error> {
    let asset = Asset::find(context, target)?;
    let Some(receiver) = asset.entry().record.offered_to.as_deref().map(Holder::parse).transpose()? else {
        return Err(Error::rule("not_offered", format!("{} is not offered to anybody; its holder offers it first", asset.name())));
    };
    context.authorise_holder(&receiver)?;
    asset.check(context, expected_version)?;
    check_holder_settled(context, &receiver)?;
    context.check_holder_active(&asset.holder())?;
    if let Asset::Range(range, _, holder) = &asset {
        // In this order, so that whoever accepts from itself is not charged twice.
        release_quota(context, holder, range.class, range.size)?;
        charge_quota(context, &receiver, range.class, range.size)?;
    }
    asset.change(context, |record| {
        record.holder = Some(receiver.code().text());
        record.offered_to = None;
    })?;
    Ok(Output::None)
}

fn check_holder_settled(context: &mut Context<'_, '_, '_>, holder: &Holder) -> Result<(), Error> {
    match context.subject(holder)? {
        Some(entry) => check_settled(&entry.record, &holder.code()),
        None => Ok(()),
    }
}
