//! Executing transactions in block order (P19, P20, P29): one receipt each, whatever happens.
use super::operation::{Action, Holder, Operation};
use super::overlay::{Change, Entry, Overlay};
use super::rates::{Charges, OWN_RATE};
use super::transaction::Transaction;
use super::{adopt, governance, items, keys, organisations, profiles, ranges, recovery, sealed, status, transfers};
use crate::code::{City, Code};
use crate::error::Error;
use crate::genesis::Parameters;
use crate::hash::Hash;
use crate::index::Snapshot;
use crate::map_key::MapKey;
use crate::profile::{attribute_fault, name_fault, service_fault};
use crate::record::{Purpose, Record, Status};
use crate::wire::Encoder;
use std::collections::HashSet;
use std::sync::Arc;

/// What an operation reports (P32).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Nothing.
    None,
    /// The range that was assigned: first serial and size.
    Range(u64, u64),
    /// The number of a proposal.
    Proposal(u64),
}

/// What the transactions of a block did.
pub struct Executed {
    /// Ids in block order, repeated ones included.
    pub ids: Vec<Hash>,
    /// Receipts in block order (P32).
    pub receipts: Vec<Vec<u8>>,
    /// Every version written, in order.
    pub changes: Vec<Change>,
    /// How many transactions took effect.
    pub committed: usize,
    /// How many were refused by the rule.
    pub rejected: usize,
}

/// Executes transactions on a snapshot; `is_known` says whether an id was included within the window before this block.
pub fn execute<'t>(
    base: &Snapshot,
    height: u64,
    parameters: &Parameters,
    transactions: impl Iterator<Item = &'t Transaction>,
    is_known: impl Fn(&Hash) -> bool,
) -> Executed {
    let mut overlay = Overlay::new(base, height);
    let mut charges = Charges::default();
    let mut seen = HashSet::new();
    let mut executed = Executed { ids: Vec::new(), receipts: Vec::new(), changes: Vec::new(), committed: 0, rejected: 0 };
    for transaction in transactions {
        let id = &transaction.id;
        executed.ids.push(*id);
        if is_known(id) || !seen.insert(*id) {
            executed.receipts.push(duplicate_receipt(id));
            continue;
        }
        let body = &transaction.body;
        let mut context =
            Context { overlay: &mut overlay, charges: &mut charges, parameters, genesis: &body.genesis, signers: &body.signers };
        match context.run_all(&body.operations) {
            Ok(outputs) => {
                overlay.keep();
                executed.committed += 1;
                executed.receipts.push(committed_receipt(id, &outputs));
            }
            Err((error, index)) => {
                overlay.undo();
                executed.rejected += 1;
                executed.receipts.push(rejected_receipt(id, &error, index));
            }
        }
    }
    executed.changes = overlay.into_changes();
    executed
}

fn committed_receipt(id: &Hash, outputs: &[Output]) -> Vec<u8> {
    let mut out = Encoder::with_capacity(40 + outputs.len());
    out.array(3).bytes(id).uint(0).array(outputs.len());
    for output in outputs {
        match output {
            Output::None => out.null(),
            Output::Range(base, size) => out.array(2).uint(*base).uint(*size),
            Output::Proposal(number) => out.uint(*number),
        };
    }
    out.finish()
}

fn rejected_receipt(id: &Hash, error: &Error, index: usize) -> Vec<u8> {
    let reason = match error {
        Error::Rule { reason, .. } => reason,
        // A record of the state that does not decode cannot be reached by any transaction: the state root would differ first.
        _ => "damaged_state",
    };
    let mut out = Encoder::with_capacity(64);
    out.array(4).bytes(id).uint(1).text(reason).uint(index as u64);
    out.finish()
}

fn duplicate_receipt(id: &Hash) -> Vec<u8> {
    let mut out = Encoder::with_capacity(40);
    out.array(2).bytes(id).uint(2);
    out.finish()
}

/// What an operation may see and change: the state of this moment, and who signed.
pub struct Context<'o, 's, 't> {
    /// The state of this moment.
    pub overlay: &'o mut Overlay<'s>,
    /// What the subjects of this block did so far.
    pub charges: &'o mut Charges,
    /// Limits.
    pub parameters: &'o Parameters,
    /// The network, as every transaction that is executed names it (P18).
    pub genesis: &'t Hash,
    /// Who signed the transaction.
    pub signers: &'t [[u8; 32]],
}

impl Context<'_, '_, '_> {
    fn run_all(&mut self, operations: &[Operation]) -> Result<Vec<Output>, (Error, usize)> {
        let mut outputs = Vec::with_capacity(operations.len());
        for (index, operation) in operations.iter().enumerate() {
            self.overlay.set_ground(operation.reason, operation.basis);
            self.charges.begin(operation.items());
            outputs.push(self.run(&operation.action).map_err(|error| (error, index))?);
        }
        Ok(outputs)
    }

    fn run(&mut self, action: &Action) -> Result<Output, Error> {
        match action {
            Action::AdmitOrganisation { city, org, name, quota, rate, keys, commitments } => organisations::admit(
                self,
                &organisations::Admission { city: *city, org: *org, name, quota: *quota, rate: *rate, keys, commitments },
            ),
            Action::SetTerms { city, org, expected_version, name, quota, rate } => {
                organisations::set_terms(self, *city, *org, *expected_version, &organisations::Terms { name, quota: *quota, rate: *rate })
            }
            Action::RotateKeys { subject, expected_version, add, remove } => keys::rotate(self, subject, *expected_version, add, remove),
            Action::SetControllers { subject, expected_version, threshold } => {
                keys::set_controllers(self, subject, *expected_version, *threshold)
            }
            Action::StartRecovery { subject, expected_version, keys } => recovery::start(self, subject, *expected_version, keys),
            Action::EndRecovery { subject, expected_version, cancel } => recovery::end(self, subject, *expected_version, *cancel),
            Action::UpdateProfile { subject, expected_version, commitments, services, schema } => {
                profiles::update(self, subject, *expected_version, commitments, services, *schema)
            }
            Action::OfferTransfer { target, expected_version, to } => transfers::offer(self, target, *expected_version, *to),
            Action::AcceptTransfer { target, expected_version } => transfers::accept(self, target, *expected_version),
            Action::AllocateRange { holder, class, size } => ranges::allocate(self, holder, *class, *size),
            Action::ReserveRange { holder, range } => adopt::reserve(self, holder, range),
            Action::RegisterAliases { namespace, aliases } => adopt::register_aliases(self, namespace, aliases),
            Action::MapDistrict { city, district } => adopt::map_district(self, *city, *district),
            Action::RegisterCategory { holder, category, name, schema } => items::register_category(self, holder, category, name, *schema),
            Action::RegisterItems { holder, category, items } => items::register(self, holder, category, items),
            Action::UpdateItems { city, class, items } => items::update(self, *city, *class, items),
            Action::SealRange { range, expected_version, table, receipts } => sealed::seal(self, range, *expected_version, table, receipts),
            Action::OverrideItem { holder, category, item, expected_version, proof } => {
                sealed::override_item(self, holder, category, item, *expected_version, proof)
            }
            Action::SetStatus { target, expected_version, status } => status::set(self, target, *expected_version, *status),
            Action::Propose { city, change } => governance::propose(self, *city, change),
            Action::Vote { city, proposal } => governance::vote(self, *city, *proposal),
            Action::WithdrawProposal { city, proposal } => governance::withdraw(self, *city, *proposal),
        }
    }

    /// The record of a city or organisation.
    pub fn subject(&mut self, holder: &Holder) -> Result<Option<Arc<Entry>>, Error> {
        match holder.org {
            Some(org) => self.overlay.get(&MapKey::Organisation(holder.city, org)),
            None => self.overlay.get(&MapKey::City(holder.city)),
        }
    }

    /// Who decides for a city: itself, or the city that governance named.
    pub fn administration(&mut self, city: City) -> Result<Holder, Error> {
        match self.overlay.get(&MapKey::City(city))? {
            Some(entry) => Ok(Holder { city: entry.record.administered_by.unwrap_or(city), org: None }),
            None => Err(Error::rule("unknown_city", format!("{city} is no member city; check the six digits"))),
        }
    }

    /// Whether the subject signed (P29). Not whether it may act now: see [`Context::authorise`].
    pub fn is_signed_by(&mut self, subject: &Holder) -> Result<bool, Error> {
        Ok(self.subject(subject)?.is_some_and(|entry| self.is_signed_by_keys_of(&entry.record)))
    }

    /// Whether as many transaction keys of a record signed as its threshold says (P29).
    pub fn is_signed_by_keys_of(&self, record: &Record) -> bool {
        let keys = record.keys_for(Purpose::Transaction, self.overlay.height());
        let signed = keys.filter(|key| self.signers.binary_search(key).is_ok()).count() as u64;
        signed >= record.threshold.unwrap_or(1)
    }

    /// The worst status of the subject and of what it is part of (P13).
    pub fn effective_status(&mut self, subject: &Holder) -> Result<Status, Error> {
        let mut worst = Status::Active;
        for key in [Some(MapKey::Network), Some(MapKey::City(subject.city)), subject.org.map(|org| MapKey::Organisation(subject.city, org))]
            .into_iter()
            .flatten()
        {
            worst = worst.max(self.overlay.get(&key)?.map_or(Status::Retired, |entry| entry.record.status));
        }
        Ok(worst)
    }

    /// Demands a signature of the subject, and that it is active (P29).
    pub fn authorise(&mut self, subject: &Holder) -> Result<(), Error> {
        if !self.is_signed_by(subject)? {
            return Err(Error::rule(
                "not_authorised",
                format!("too few transaction keys of {} signed; sign with as many of its present keys as must", subject.code()),
            ));
        }
        self.charge(subject)?;
        self.check_holder_active(subject)
    }

    /// Charges a subject that signed for the running operation (P72).
    pub fn charge(&mut self, subject: &Holder) -> Result<(), Error> {
        let used = self.charges.charge(subject);
        let rate = match subject.org {
            Some(_) => {
                let own = self.subject(subject)?.and_then(|entry| entry.record.rate).unwrap_or(u64::MAX);
                own.min(self.parameters.organisation_rate)
            }
            None => self.parameters.city_rate,
        };
        if used > rate {
            return Err(Error::rule(
                "rate_exceeded",
                format!(
                    "{} may do {rate} operations in a block, items counted singly, and this would make {used}; send it again later",
                    subject.code()
                ),
            ));
        }
        Ok(())
    }

    /// Charges an item that acts by its own keys, or the objection of a subject to its recovery (P72).
    pub fn charge_own(&mut self, subject: &Code) -> Result<(), Error> {
        if self.charges.charge_own(subject) > OWN_RATE {
            return Err(Error::rule("rate_exceeded", format!("{subject} did so {OWN_RATE} times in this block; send it again later")));
        }
        Ok(())
    }

    /// Demands the authority to act as a holder (P29): an organisation's own, or for what a city holds and admits itself that of
    /// whoever administers it, while the city is active.
    pub fn authorise_holder(&mut self, holder: &Holder) -> Result<(), Error> {
        if holder.org.is_some() {
            return self.authorise(holder);
        }
        let administration = self.administration(holder.city)?;
        self.authorise(&administration)?;
        self.check_holder_active(holder)
    }

    /// Demands that a holder may act now.
    pub fn check_holder_active(&mut self, subject: &Holder) -> Result<(), Error> {
        match self.effective_status(subject)? {
            Status::Active => Ok(()),
            status => {
                Err(Error::rule("suspended", format!("{} is {}; it cannot act until it is active again", subject.code(), status.name())))
            }
        }
    }

    /// Refuses more commitments or services than the network allows, and those that a record cannot hold.
    pub fn check_profile(&self, commitments: &[(String, Hash)], services: &[(String, String)]) -> Result<(), Error> {
        if commitments.len() as u64 > self.parameters.max_commitments || services.len() as u64 > self.parameters.max_services {
            return Err(Error::rule(
                "too_large",
                format!(
                    "{} commitments and {} services, the limits are {} and {}",
                    commitments.len(),
                    services.len(),
                    self.parameters.max_commitments,
                    self.parameters.max_services
                ),
            ));
        }
        for (name, _) in commitments {
            if let Some(fault) = attribute_fault(name) {
                return Err(Error::rule("bad_name", format!("the attribute name {name:?} is refused: {fault}")));
            }
        }
        for (kind, uri) in services {
            if let Some(fault) = service_fault(kind, uri) {
                return Err(Error::rule("bad_service", format!("the service [{kind:?}, {uri:?}] is refused: {fault}")));
            }
        }
        Ok(())
    }
}

/// Refuses a name that a record cannot hold.
pub fn check_name(name: &str) -> Result<(), Error> {
    match name_fault(name) {
        Some(fault) => Err(Error::rule("bad_name", format!("the name {name:?} is refused: {fault}"))),
        None => Ok(()),
    }
}

/// Refuses a version other than the one the submitter saw.
pub fn check_version(entry: &Entry, expected: u64) -> Result<(), Error> {
    if entry.record.version != expected {
        return Err(Error::rule(
            "stale_version",
            format!("the record has version {}, not {expected}; read it again and decide anew", entry.record.version),
        ));
    }
    Ok(())
}
