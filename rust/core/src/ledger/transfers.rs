//! Transfers of items and ranges: the holder offers, the receiver accepts (P56, P57). Codes never change, holders do.
//!
//! - An offer stands until it is withdrawn or accepted, but counts only while giver and receiver may act: an offer made with stolen
//!   keys must not be accepted once the theft is known.
//! - An item that is offered carries its holder in its record from then on. Without that, its range could pass to somebody else in
//!   between, and the offer would give away what is no longer the giver's.
use super::execute::{check_version, Context, Output};
use super::operation::{Holder, Range, Target};
use super::overlay::Entry;
use super::ranges::{charge_quota, range_of, release_quota};
use super::subject::{check_live, check_settled, Subject};
use crate::code::Code;
use crate::error::Error;
use crate::map_key::MapKey;
use crate::record::Status;
use std::sync::Arc;

/// What changes hands, as it is now.
struct Asset {
    key: MapKey<'static>,
    entry: Arc<Entry>,
    holder: Holder,
    /// Of a range: its class and size are what counts for holdings.
    range: Option<Range>,
    name: String,
}

impl Asset {
    fn find(context: &mut Context<'_, '_, '_>, target: &Target) -> Result<Asset, Error> {
        match target {
            Target::Code(code @ Code::Item { .. }) => {
                let subject = Subject::find(context, code)?;
                Ok(Asset { key: subject.key, holder: subject.holder(), entry: subject.entry, range: None, name: code.text() })
            }
            Target::Code(code) => Err(Error::rule("unknown_code", format!("{code} is no item; only items and ranges change hands"))),
            Target::Range(range) => {
                let name = format!("the range of {} from {} of class {} in {}", range.size, range.base, range.class, range.city);
                let entry = context.overlay.get(&range.key())?;
                let held = entry.and_then(|entry| entry.record.holder.as_deref().map(Holder::parse).map(|holder| (entry.clone(), holder)));
                match held {
                    Some((entry, holder)) => Ok(Asset { key: range.key(), entry, holder: holder?, range: Some(*range), name }),
                    None => Err(Error::rule("unknown_code", format!("nobody holds {name}"))),
                }
            }
        }
    }

    /// Refuses what may not change hands now.
    fn check(&self, context: &mut Context<'_, '_, '_>, expected_version: u64) -> Result<(), Error> {
        check_live(&self.entry.record, &self.name)?;
        check_version(&self.entry, expected_version)?;
        if self.entry.record.status == Status::Suspended {
            return Err(Error::rule("suspended", format!("{} is suspended; it changes hands when it is active again", self.name)));
        }
        check_settled(&self.entry.record, &self.name)?;
        check_holder_settled(context, &self.holder)
    }
}

/// P56.
pub fn offer(context: &mut Context<'_, '_, '_>, target: &Target, expected_version: u64, to: Option<Holder>) -> Result<Output, Error> {
    let asset = Asset::find(context, target)?;
    context.authorise_holder(&asset.holder)?;
    asset.check(context, expected_version)?;
    if let Some(receiver) = to {
        if context.subject(&receiver)?.is_none() {
            return Err(Error::rule("unknown_code", format!("{} is not registered; check the receiver's code", receiver.code())));
        }
    }
    let range_holder = match target {
        Target::Code(Code::Item { city, category, serial, .. }) => {
            range_of(context, *city, category.class, *serial)?.and_then(|range| range.record.holder.clone())
        }
        _ => None,
    };
    context.overlay.update(&asset.key, &asset.entry, |record| {
        record.offered_to = to.map(|receiver| receiver.code().text());
        if asset.range.is_none() {
            let holder = asset.holder.code().text();
            // Withdrawn: an item of its range's holder goes along with the range again.
            record.holder = (to.is_some() || range_holder.as_ref() != Some(&holder)).then_some(holder);
        }
    })?;
    Ok(Output::None)
}

/// P57.
pub fn accept(context: &mut Context<'_, '_, '_>, target: &Target, expected_version: u64) -> Result<Output, Error> {
    let asset = Asset::find(context, target)?;
    let Some(receiver) = asset.entry.record.offered_to.as_deref().map(Holder::parse).transpose()? else {
        return Err(Error::rule("not_offered", format!("{} is not offered to anybody; its holder offers it first", asset.name)));
    };
    context.authorise_holder(&receiver)?;
    asset.check(context, expected_version)?;
    check_holder_settled(context, &receiver)?;
    context.check_holder_active(&asset.holder)?;
    if let Some(range) = &asset.range {
        // In this order, so that whoever accepts from itself is not charged twice.
        release_quota(context, &asset.holder, range.class, range.size)?;
        charge_quota(context, &receiver, range.class, range.size)?;
    }
    context.overlay.update(&asset.key, &asset.entry, |record| {
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
