//! Subjects: the cities, organisations and items that have keys, and who speaks for them (P28, P29, P54).
//!
//! A city and an organisation speak by their own keys. An item speaks by its own once it has transaction keys, else its holder
//! speaks for it. Who may start a recovery is the parent: of an organisation its city, of an item its holder; of a city the member
//! cities together, which is governance and not found here.
use super::execute::{check_version, Context};
use super::items::{item_of_code, Item};
use super::operation::Holder;
use super::overlay::Entry;
use super::ranges::range_of;
use crate::code::Code;
use crate::error::Error;
use crate::map_key::MapKey;
use crate::record::{Purpose, Record, Status};
use std::sync::Arc;

/// A subject with keys, as it is now.
pub enum Subject {
    /// A city or an organisation.
    Holder(Holder, Arc<Entry>),
    /// An item.
    Item(Item),
}

impl Subject {
    /// The subject behind a code.
    ///
    /// Errors: `unknown_code` when it is not registered or can have no keys, `sealed` for an item of a table.
    pub fn find(context: &mut Context<'_, '_, '_>, code: &Code) -> Result<Subject, Error> {
        let holder = match code {
            Code::City { city } => Holder { city: *city, org: None },
            Code::Org { city, org } => Holder { city: *city, org: Some(*org) },
            Code::Item { .. } => return item_of_code(context, code).map(Subject::Item),
            Code::Category { .. } | Code::Foreign(_) => {
                return Err(Error::rule("unknown_code", format!("{code} is no city, organisation or item; only those have keys")));
            }
        };
        match context.subject(&holder)? {
            Some(entry) => Ok(Subject::Holder(holder, entry)),
            None => Err(Error::rule("unknown_code", format!("{code} is not registered; check the code"))),
        }
    }

    /// Its code.
    pub fn code(&self) -> Code {
        match self {
            Subject::Holder(holder, _) => holder.code(),
            Subject::Item(item) => item.code.clone(),
        }
    }

    fn entry(&self) -> &Entry {
        match self {
            Subject::Holder(_, entry) => entry,
            Subject::Item(item) => &item.entry,
        }
    }

    /// Its record.
    pub fn record(&self) -> &Record {
        &self.entry().record
    }

    /// Writes the next version of the record, changed by `edit`.
    pub fn change(&self, context: &mut Context<'_, '_, '_>, edit: impl FnOnce(&mut Record)) -> Result<(), Error> {
        match self {
            Subject::Holder(Holder { city, org: Some(org) }, entry) => {
                context.overlay.update(&MapKey::Organisation(*city, *org), entry, edit)
            }
            Subject::Holder(Holder { city, org: None }, entry) => context.overlay.update(&MapKey::City(*city), entry, edit),
            Subject::Item(item) => item.change(context, edit),
        }
    }

    /// Whether it is an item.
    pub fn is_item(&self) -> bool {
        matches!(self, Subject::Item(_))
    }

    /// Whether it has transaction keys of its own, whether or not they count now.
    pub fn has_keys(&self) -> bool {
        self.record().keys.iter().any(|key| key.purpose == Purpose::Transaction)
    }

    /// Demands that the subject says so itself (P29), or for an item without transaction keys its holder.
    pub fn authorise(&self, context: &mut Context<'_, '_, '_>) -> Result<(), Error> {
        let item = match self {
            Subject::Holder(holder, _) => return context.authorise(holder),
            Subject::Item(item) if !self.has_keys() => return context.authorise_holder(&item.holder),
            Subject::Item(item) => item,
        };
        if !context.is_signed_by_keys_of(self.record()) {
            return Err(Error::rule(
                "not_authorised",
                format!("too few transaction keys of {} signed; {} must", item.code, self.record().threshold.unwrap_or(1)),
            ));
        }
        context.charge_own(&item.code)?;
        match item_status(context, item)? {
            Status::Active => Ok(()),
            status => Err(Error::rule(
                "suspended",
                format!("{} is {}; its keys count again when it, and what it is part of, is active", item.code, status.name()),
            )),
        }
    }

    /// Demands whoever may start a recovery of the subject (P54).
    pub fn authorise_parent(&self, context: &mut Context<'_, '_, '_>) -> Result<(), Error> {
        match self {
            Subject::Holder(Holder { city, org: Some(_) }, _) => context.authorise_holder(&Holder { city: *city, org: None }),
            Subject::Holder(Holder { city, org: None }, _) => Err(Error::rule(
                "not_authorised",
                format!("the keys of city {city} are replaced by the member cities together, not by this operation"),
            )),
            Subject::Item(item) => context.authorise_holder(&item.holder),
        }
    }

    /// Demands the version that the submitter saw, of a subject that can still change.
    pub fn check_version(&self, expected: u64) -> Result<(), Error> {
        check_live(self.record(), &self.code())?;
        check_version(self.entry(), expected)
    }

    /// Demands that no recovery is under way.
    pub fn check_settled(&self) -> Result<(), Error> {
        check_settled(self.record(), &self.code())
    }
}

/// P13, of an item.
fn item_status(context: &mut Context<'_, '_, '_>, item: &Item) -> Result<Status, Error> {
    let Code::Item { city, org, category, serial } = &item.code else { return Ok(Status::Retired) };
    let issuer = context.effective_status(&Holder { city: *city, org: *org })?;
    let range = range_of(context, *city, category.class, *serial)?.map_or(Status::Retired, |(_, range)| range.record.status);
    Ok(issuer.max(range).max(item.entry.record.status))
}

/// Refuses what is retired: it never changes again.
pub fn check_live(record: &Record, what: &impl std::fmt::Display) -> Result<(), Error> {
    if record.status == Status::Retired {
        return Err(Error::rule("retired", format!("{what} is retired; what is retired never changes again")));
    }
    Ok(())
}

/// Refuses while a recovery is under way (P54): whoever has the keys then may be the one they were lost to.
pub fn check_settled(record: &Record, what: &impl std::fmt::Display) -> Result<(), Error> {
    match &record.recovery {
        None => Ok(()),
        Some(recovery) => Err(Error::rule(
            "recovery_pending",
            format!("a recovery of {what} is under way, due at height {}; end or cancel it first", recovery.due),
        )),
    }
}
