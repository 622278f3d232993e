//! Subjects: the cities, organisations and items that have keys, and who speaks for them (P28, P29, P54).
//!
//! A city and an organisation speak by their own keys. An item speaks by its own once it has transaction keys, else its holder
//! speaks for it. Who may start a recovery is the parent: of an organisation its city, of an item its holder; of a city the member
//! cities together, which is governance and not found here.
use super::execute::{check_version, Context};
use super::items::{holder_of, item};
use super::operation::Holder;
use super::overlay::Entry;
use super::ranges::range_of;
use crate::code::Code;
use crate::error::Error;
use crate::map_key::MapKey;
use crate::record::{Purpose, Record, Status};
use std::sync::Arc;

/// A subject with keys, as it is now.
pub struct Subject {
    /// What it is called.
    pub code: Code,
    /// Where its record stands.
    pub key: MapKey<'static>,
    /// Its record.
    pub entry: Arc<Entry>,
    /// Itself as a holder; of an item, who holds it.
    holder: Holder,
}

impl Subject {
    /// The subject behind a code.
    ///
    /// Errors: `unknown_code` when it is not registered or can have no keys, `sealed` for an item of a table.
    pub fn find(context: &mut Context<'_, '_, '_>, code: &Code) -> Result<Subject, Error> {
        let (key, holder) = match code {
            Code::City { city } => (MapKey::City(*city), Holder { city: *city, org: None }),
            Code::Org { city, org } => (MapKey::Organisation(*city, *org), Holder { city: *city, org: Some(*org) }),
            Code::Item { .. } => return Subject::find_item(context, code),
            Code::Category { .. } | Code::Foreign(_) => {
                return Err(Error::rule("unknown_code", format!("{code} is no city, organisation or item; only those have keys")));
            }
        };
        match context.overlay.get(&key)? {
            Some(entry) => Ok(Subject { code: code.clone(), key, entry, holder }),
            None => Err(Error::rule("unknown_code", format!("{code} is not registered; check the code"))),
        }
    }

    fn find_item(context: &mut Context<'_, '_, '_>, code: &Code) -> Result<Subject, Error> {
        let Code::Item { city, category, serial, .. } = code else {
            return Err(Error::rule("unknown_code", format!("{code} is no item")));
        };
        let (entry, registered) = item(context, *city, category.class, *serial)?;
        if registered != *code {
            return Err(Error::rule("unknown_code", format!("{code} is not registered; that serial belongs to {registered}")));
        }
        let holder = holder_of(&entry.record, &registered)?;
        Ok(Subject { code: registered, key: MapKey::Item(*city, category.class, *serial), entry, holder })
    }

    /// Its record.
    pub fn record(&self) -> &Record {
        &self.entry.record
    }

    /// Who holds it, if it is an item; else itself.
    pub fn holder(&self) -> Holder {
        self.holder
    }

    /// Whether it is an item.
    pub fn is_item(&self) -> bool {
        matches!(self.code, Code::Item { .. })
    }

    /// Whether it has transaction keys of its own, whether or not they count now.
    pub fn has_keys(&self) -> bool {
        self.record().keys.iter().any(|key| key.purpose == Purpose::Transaction)
    }

    /// Demands that the subject says so itself (P29), or for an item without transaction keys its holder.
    pub fn authorise(&self, context: &mut Context<'_, '_, '_>) -> Result<(), Error> {
        if !self.is_item() {
            return context.authorise(&self.holder);
        }
        if !self.has_keys() {
            return context.authorise_holder(&self.holder);
        }
        self.authorise_own(context)?;
        match self.item_status(context)? {
            Status::Active => Ok(()),
            status => Err(Error::rule(
                "suspended",
                format!("{} is {}; its keys count again when it, and what it is part of, is active", self.code, status.name()),
            )),
        }
    }

    /// Demands as many of the subject's transaction keys as its threshold says, whatever its status.
    pub fn authorise_own(&self, context: &Context<'_, '_, '_>) -> Result<(), Error> {
        if context.is_signed_by_keys_of(self.record()) {
            return Ok(());
        }
        Err(Error::rule(
            "not_authorised",
            format!("too few transaction keys of {} signed; {} must", self.code, self.record().threshold.unwrap_or(1)),
        ))
    }

    /// Demands whoever may start a recovery of the subject (P54).
    pub fn authorise_parent(&self, context: &mut Context<'_, '_, '_>) -> Result<(), Error> {
        match self.code {
            Code::Org { city, .. } => context.authorise_holder(&Holder { city, org: None }),
            Code::Item { .. } => context.authorise_holder(&self.holder),
            _ => Err(Error::rule(
                "not_authorised",
                format!("the keys of {} are replaced by the member cities together, not by this operation", self.code),
            )),
        }
    }

    /// Demands the version that the submitter saw, of a subject that can still change.
    pub fn check_version(&self, expected: u64) -> Result<(), Error> {
        check_live(self.record(), &self.code)?;
        check_version(&self.entry, expected)
    }

    /// Demands that no recovery is under way.
    pub fn check_settled(&self) -> Result<(), Error> {
        check_settled(self.record(), &self.code)
    }

    fn item_status(&self, context: &mut Context<'_, '_, '_>) -> Result<Status, Error> {
        let Code::Item { city, org, category, serial } = &self.code else { return context.effective_status(&self.holder) };
        let issuer = context.effective_status(&Holder { city: *city, org: *org })?;
        let range = range_of(context, *city, category.class, *serial)?.map_or(Status::Retired, |range| range.record.status);
        Ok(issuer.max(range).max(self.record().status))
    }
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
