//! What the member cities decide together (P58 to P70): proposals, votes, and enacting what more than two thirds of them want.
//!
//! A proposal is its change in CBOR and the cities that agree. The vote that completes more than two thirds enacts the change at its
//! place in the block, with everything that the rule says against it at that moment: a vote whose enactment is refused is refused.
//! What governance decides stands in the record of kind 11 and in the records of cities; who votes on blocks follows from both.
mod certificate;
mod cities;
mod merger;
mod network;

pub use certificate::check as check_certificate;

use super::execute::{Context, Output};
use super::operation::{Change, Holder};
use super::overlay::Entry;
use crate::code::City;
use crate::error::Error;
use crate::map_key::{Kind, MapKey};
use crate::record::{Configuration, Proposal, Record, Status, MAX_CHANGE};
use crate::wire::{Decoder, Encoder};
use std::sync::Arc;

/// P58.
pub fn propose(context: &mut Context<'_, '_, '_>, city: City, change: &Change) -> Result<Output, Error> {
    authorise(context, city)?;
    let mut encoded = Encoder::new();
    change.encode(&mut encoded);
    let encoded = encoded.finish();
    if encoded.len() > MAX_CHANGE {
        return Err(Error::rule(
            "too_large",
            format!("a change of {} bytes, the limit is {MAX_CHANGE}; use fewer keys or services", encoded.len()),
        ));
    }
    // What could not be enacted now is not worth a vote. Enacting it says so best; then all of it is undone.
    let mark = context.overlay.mark();
    enact(context, change)?;
    context.overlay.undo_to(mark);

    let number = configuration(context)?.1.proposals + 1;
    configure(context, |configuration| configuration.proposals = number)?;
    let mut record = Record::new(Kind::Proposal, context.overlay.height());
    record.status = Status::Allocated;
    record.holder = Some(Holder { city, org: None }.code().text());
    let until = context.overlay.height().saturating_add(context.parameters.proposal_window).min(i64::MAX as u64);
    record.proposal = Some(Box::new(Proposal { change: encoded, votes: vec![city], until }));
    context.overlay.put(&MapKey::Proposal(number), record)?;
    // A network has at least four members, so this one vote enacts nothing.
    Ok(Output::Proposal(number))
}

/// P59.
pub fn vote(context: &mut Context<'_, '_, '_>, city: City, number: u64) -> Result<Output, Error> {
    authorise(context, city)?;
    let (entry, proposal) = open_proposal(context, number)?;
    if context.overlay.height() > proposal.until {
        return Err(Error::rule(
            "expired_proposal",
            format!("votes on proposal {number} ended with height {}; make a new proposal", proposal.until),
        ));
    }
    if proposal.votes.binary_search(&city).is_ok() {
        return Err(Error::rule("exists", format!("{city} agreed to proposal {number} before; one vote a city")));
    }
    // Cities that left since they agreed are taken off the list, so that it has no more than there are members.
    let mut votes = Vec::with_capacity(proposal.votes.len() + 1);
    let mut agreeing = 1;
    for voter in &proposal.votes {
        let Some(standing) = standing(context, *voter)? else { continue };
        agreeing += u64::from(standing == Status::Active);
        votes.push(*voter);
    }
    votes.insert(votes.partition_point(|voter| *voter < city), city);
    let members = configuration(context)?.1.members;
    let is_enacted = agreeing * 3 > members * 2;
    if is_enacted {
        let mut decoder = Decoder::new(&proposal.change);
        let change = Change::decode(&mut decoder)?;
        decoder.end()?;
        enact(context, &change)?;
    }
    context.overlay.update(&MapKey::Proposal(number), &entry, |record| {
        record.proposal = Some(Box::new(Proposal { votes, ..proposal }));
        if is_enacted {
            record.status = Status::Active;
        }
    })?;
    Ok(Output::None)
}

/// P60.
pub fn withdraw(context: &mut Context<'_, '_, '_>, city: City, number: u64) -> Result<Output, Error> {
    authorise(context, city)?;
    let (entry, _) = open_proposal(context, number)?;
    let proposer = Holder { city, org: None }.code().text();
    if entry.record.holder.as_deref() != Some(proposer.as_str()) {
        return Err(Error::rule(
            "not_authorised",
            format!("proposal {number} was made by {}; only that city withdraws it", entry.record.holder.as_deref().unwrap_or_default()),
        ));
    }
    context.overlay.update(&MapKey::Proposal(number), &entry, |record| record.status = Status::Retired)?;
    Ok(Output::None)
}

/// Demands that the city signed and is an active member that speaks for itself.
fn authorise(context: &mut Context<'_, '_, '_>, city: City) -> Result<(), Error> {
    context.authorise(&Holder { city, org: None })?;
    match context.overlay.get(&MapKey::City(city))?.and_then(|entry| successor(&entry.record)) {
        Some(successor) => Err(Error::rule("merged", format!("{city} was merged into {successor}, which votes for what it became"))),
        None => Ok(()),
    }
}

fn open_proposal(context: &mut Context<'_, '_, '_>, number: u64) -> Result<(Arc<Entry>, Proposal), Error> {
    let unknown = || Error::rule("unknown_proposal", format!("there is no proposal {number}; its receipt gave its number"));
    let entry = context.overlay.get(&MapKey::Proposal(number))?.ok_or_else(unknown)?;
    let proposal = entry.record.proposal.as_deref().ok_or_else(unknown)?.clone();
    match entry.record.status {
        Status::Allocated => Ok((entry, proposal)),
        status => {
            let what = if status == Status::Active { "enacted" } else { "withdrawn" };
            Err(Error::rule("closed", format!("proposal {number} was {what} before; make a new one if it is still wanted")))
        }
    }
}

/// Does what the cities decided, or says why the rule forbids it now (P61 to P68).
fn enact(context: &mut Context<'_, '_, '_>, change: &Change) -> Result<(), Error> {
    match change {
        Change::AdmitCity { city, name, keys, certificate, services } => {
            cities::admit(context, *city, &cities::Admission { name, keys, certificate, services })
        }
        Change::RemoveCity { city } => cities::remove(context, *city),
        Change::SetCityStatus { city, status } => cities::set_status(context, *city, *status),
        Change::ReplaceKeys { city, keys, certificate } => cities::replace_keys(context, *city, keys, certificate.as_deref()),
        Change::SetCommittee { cities } => network::set_committee(context, cities),
        Change::SetParameters { values } => network::set_parameters(context, values),
        Change::ScheduleProtocol { version, height } => network::schedule_protocol(context, *version, *height),
        Change::MergeCity { city, into } => merger::merge(context, *city, *into),
    }
}

/// The record of kind 11 as it is now, with what it says.
fn configuration(context: &mut Context<'_, '_, '_>) -> Result<(Arc<Entry>, Configuration), Error> {
    let damaged = || Error::malformed("a state without its record of parameters");
    let entry = context.overlay.get(&MapKey::Parameters)?.ok_or_else(damaged)?;
    let configuration = entry.record.configuration.as_deref().ok_or_else(damaged)?.clone();
    Ok((entry, configuration))
}

/// Writes the next version of the record of kind 11.
///
/// Errors: `Rule` (`no_quorum_left`) when the cities that may vote afterwards would no longer be more than two thirds of the members,
/// so that they could never decide anything again.
fn configure(context: &mut Context<'_, '_, '_>, edit: impl FnOnce(&mut Configuration)) -> Result<(), Error> {
    let (entry, mut configuration) = configuration(context)?;
    edit(&mut configuration);
    let active = configuration.members.saturating_sub(configuration.suspended);
    if active * 3 <= configuration.members * 2 {
        return Err(Error::rule(
            "no_quorum_left",
            format!(
                "{active} of {} member cities would be active; more than two thirds are needed to decide anything",
                configuration.members
            ),
        ));
    }
    context.overlay.update(&MapKey::Parameters, &entry, |record| record.configuration = Some(Box::new(configuration)))
}

/// A member city that is not retired.
fn member(context: &mut Context<'_, '_, '_>, city: City) -> Result<Arc<Entry>, Error> {
    match context.overlay.get(&MapKey::City(city))? {
        Some(entry) if entry.record.status == Status::Retired => {
            Err(Error::rule("bad_transition", format!("{city} was removed; a retired city stays as it is")))
        }
        Some(entry) => Ok(entry),
        None => Err(Error::rule("unknown_city", format!("{city} is no member city; check the six digits"))),
    }
}

/// The city that continues this one.
fn successor(record: &Record) -> Option<City> {
    record.succession.as_ref().and_then(|succession| succession.successor)
}

/// The status of a city that votes; none of one that is retired or merged into another.
fn standing(context: &mut Context<'_, '_, '_>, city: City) -> Result<Option<Status>, Error> {
    let Some(entry) = context.overlay.get(&MapKey::City(city))? else { return Ok(None) };
    let record = &entry.record;
    Ok((record.status != Status::Retired && successor(record).is_none()).then_some(record.status))
}
