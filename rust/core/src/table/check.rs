//! What a city checks before it signs that it keeps a table (P44): that it is the successor of what the ledger and the table before
//! hold, and that nothing in it could not have been registered.
//!
//! Present at an index is the newer of the leaf of the table before and the ledger's own item record (P41). In the new table stands
//! - where something is present: that very record, or its next version, of which the holder of the range could have made each part;
//! - where nothing is present: nothing, or a new item of the range's holder.
//!
//! The new table is checked while it is read, subtree after subtree ([`super::index::PIECE`] leaves); the bytes of the table before
//! must give the hashes that were read at first.
use super::file::{for_each_leaf, Head, Held};
use super::index::{Index, Subtree, PIECE};
use super::shape::Shapes;
use crate::answer::StateReader;
use crate::code::{Category, Org};
use crate::error::Error;
use crate::genesis::Parameters;
use crate::hash::{hex, Hash};
use crate::ledger::operation::Holder;
use crate::map_key::MapKey;
use crate::profile::{attribute_fault, service_fault};
use crate::record::{Children, Record, Status};
use std::sync::Arc;

/// One table under check. Errors are `Rule` (`bad_table`), or [`Error::Malformed`] for damaged bytes.
pub struct Check<'c, S> {
    head: Head,
    previous: Option<&'c Index>,
    state: &'c S,
    height: u64,
    holder: Holder,
    /// Nobody registered an item of the range singly, and no table of it was overridden (P46): the state holds none.
    untouched: bool,
    parameters: Parameters,
}

impl<'c, S: StateReader + Sync> Check<'c, S> {
    /// Checks what follows from the heads: the network, the size of the file, that the range is held, its version and the digest of
    /// the file before.
    pub fn new(
        head: Head,
        size_bytes: u64,
        previous: Option<&'c Index>,
        state: &'c S,
        height: u64,
        genesis: &Hash,
    ) -> Result<Check<'c, S>, Error> {
        if head.genesis != *genesis {
            return bad("it is of another network");
        }
        let parameters = parameters(state)?;
        if size_bytes > parameters.max_table_bytes {
            let most = parameters.max_table_bytes;
            return bad(format!("its file has {size_bytes} bytes, more than the {most} that the network keeps"));
        }
        let range = read(state, &head.range.key())?;
        let Some(range) = range.filter(|range| matches!(range.children, Children::Items | Children::Table)) else {
            return bad(format!("nobody holds the range of {} serials from {}", head.range.size, head.range.base));
        };
        let holder = Holder::parse(range.holder.as_deref().unwrap_or_default())?;
        let (version, digest) = range.table.map_or((0, None), |sealed| (sealed.version, Some(sealed.digest)));
        if head.version != version + 1 {
            return bad(format!("it has version {}, and the range's table has version {version}", head.version));
        }
        if head.previous != digest {
            return bad("it names another table before it than the one of the range");
        }
        if previous.map(Index::digest) != digest {
            return bad(match digest {
                Some(digest) => format!("it is checked against the table before it, {}, which is not at hand", hex(&digest)),
                None => "the range has no table yet, and one is given as the table before it".to_owned(),
            });
        }
        let untouched = !range.used && range.table.is_none();
        Ok(Check { head, previous, state, height, holder, untouched, parameters })
    }

    /// Checks one subtree. `previous` is what stands of it in the file before, as [`Index::bytes_of_piece`] says; empty where that
    /// is.
    pub fn subtree(&self, subtree: &Subtree<'_>, previous: &[u8]) -> Result<(), Error> {
        let (from, to) = (subtree.number * PIECE, ((subtree.number + 1) * PIECE).min(self.head.size()));
        let mut older: Vec<Option<Box<[u8]>>> = vec![None; (to - from) as usize];
        if let Some(index) = self.previous {
            let entries = index.entries(subtree.number, previous)?;
            for_each_leaf(index.head(), &entries, (from, to), |index, held| {
                older[(index - from) as usize] = Some(held.record().into());
                Ok(())
            })?;
        }
        let mut seen = Seen { category: None, shapes: Shapes::new(&self.head) };
        let mut next = from;
        for_each_leaf(&self.head, &subtree.entries, (from, to), |index, held| {
            for missing in next..index {
                self.leaf(missing, older[(missing - from) as usize].take(), None, &mut seen)?;
            }
            next = index + 1;
            self.leaf(index, older[(index - from) as usize].take(), Some(held), &mut seen)
        })?;
        (next..to).try_for_each(|missing| self.leaf(missing, older[(missing - from) as usize].take(), None, &mut seen))
    }

    fn leaf(&self, index: u32, older: Option<Box<[u8]>>, held: Option<Held<'_>>, seen: &mut Seen<'_>) -> Result<(), Error> {
        let range = &self.head.range;
        let serial = self.head.serial(index)?;
        let own = if self.untouched { None } else { self.state.get(&MapKey::Item(range.city, range.class, serial).path()) };
        let fault = match (present(own, older)?, held) {
            (None, None) => return Ok(()),
            (Some(present), Some(held)) if *present == *held.record() => return Ok(()),
            (Some(_), None) => "it is missing, and the ledger or the table before holds it; nothing is removed".to_owned(),
            (Some(present), Some(held)) => match self.next_fault(index, &present, held.record())? {
                Some(fault) => fault,
                None => return Ok(()),
            },
            (None, Some(held)) => match self.new_fault(index, held, seen)? {
                Some(fault) => fault,
                None => return Ok(()),
            },
        };
        bad(format!("serial {serial}: {fault}"))
    }

    /// Why a record cannot stand where nothing was.
    fn new_fault(&self, index: u32, held: Held<'_>, seen: &mut Seen<'_>) -> Result<Option<String>, Error> {
        match held {
            Held::Plain(_, run) => {
                let template = &self.head.templates[usize::from(run.template)];
                self.issuing_fault(template.org, self.head.category(template), run.height, &mut seen.category)
            }
            Held::Single(record) => {
                let shape = seen.shapes.of(index, record)?;
                // Nothing below depends on the serial or the commitments' hashes.
                if shape.is_accepted {
                    return Ok(None);
                }
                let item = shape.first();
                if let Some(fault) = self.profile_fault(item) {
                    return Ok(Some(fault));
                }
                let begins = matches!(item.status, Status::Active | Status::Allocated);
                let mut plain = Record::new(item.kind, item.height);
                plain.status = item.status;
                plain.code.clone_from(&item.code);
                plain.commitments.clone_from(&item.commitments);
                plain.services.clone_from(&item.services);
                (plain.reason, plain.basis) = (item.reason, item.basis);
                if plain != *item || !begins {
                    return Ok(Some("a new item has version 1, is active or allocated, and has commitments and services alone".to_owned()));
                }
                let (org, category) = shape.issuer();
                let fault = self.issuing_fault(org, category, item.height, &mut seen.category)?;
                shape.is_accepted = fault.is_none();
                Ok(fault)
            }
        }
    }

    /// Why the holder of the range cannot have issued an item of a category at a height.
    fn issuing_fault(
        &self,
        org: Option<Org>,
        category: Category,
        height: u64,
        checked: &mut Option<(Option<Org>, Category)>,
    ) -> Result<Option<String>, Error> {
        if org != self.holder.org {
            return Ok(Some(format!("it is a new item of another issuer than the holder of the range, {}", self.holder.code())));
        }
        if height > self.height {
            return Ok(Some(format!("its record is of height {height}, and height {} is the last that was decided", self.height)));
        }
        if *checked != Some((org, category)) {
            let key = MapKey::Category(self.head.range.city, org, category);
            match read(self.state, &key)? {
                Some(record) if record.status == Status::Active => *checked = Some((org, category)),
                Some(record) => return Ok(Some(format!("its category {}/{category} is {}", self.holder.code(), record.status.name()))),
                None => return Ok(Some(format!("its category {}/{category} is not registered", self.holder.code()))),
            }
        }
        Ok(None)
    }

    /// Why a record cannot follow the present one.
    fn next_fault(&self, index: u32, present: &[u8], record: &[u8]) -> Result<Option<String>, Error> {
        let (before, _) = self.head.item(index, present)?;
        let (after, _) = self.head.item(index, record)?;
        let fault = |fault: &str| Ok(Some(fault.to_owned()));
        let mut expected = before.next_version(present, after.height);
        expected.status = after.status;
        expected.commitments.clone_from(&after.commitments);
        expected.services.clone_from(&after.services);
        (expected.reason, expected.basis) = (after.reason, after.basis);
        if expected != after {
            return fault("it is neither the present version nor the next one with another status, commitments or services");
        }
        if after.height > self.height {
            return fault("its record is of a height that was not decided yet");
        }
        if before.holder.as_deref().is_some_and(|holder| holder != self.holder.code().text()) {
            return fault("another holds the item than the range, and it was changed; only that holder changes it");
        }
        if before.status == Status::Retired {
            return fault("it is retired and was changed; a retired code never changes again");
        }
        if before.status != after.status && (before.status_by_city || !before.status.may_become(after.status)) {
            return fault("its status makes a move that the holder cannot make");
        }
        Ok(self.profile_fault(&after))
    }

    fn profile_fault(&self, item: &Record) -> Option<String> {
        let Parameters { max_commitments, max_services, .. } = self.parameters;
        if item.commitments.len() as u64 > max_commitments || item.services.len() as u64 > max_services {
            return Some(format!("it has more than {max_commitments} commitments or {max_services} services"));
        }
        let attributes = item.commitments.iter().filter_map(|(name, _)| attribute_fault(name));
        let services = item.services.iter().filter_map(|(kind, uri)| service_fault(kind, uri));
        attributes.chain(services).next().map(|fault| format!("an attribute name or a service is refused: {fault}"))
    }
}

/// What was found good in one subtree, and need not be looked at again.
struct Seen<'h> {
    category: Option<(Option<Org>, Category)>,
    shapes: Shapes<'h>,
}

/// The newer of the ledger's own record and the older leaf; of equal versions the ledger's (P41).
fn present(own: Option<Arc<[u8]>>, older: Option<Box<[u8]>>) -> Result<Option<Arc<[u8]>>, Error> {
    Ok(match (own, older) {
        (Some(own), Some(older)) if Record::decode(&older)?.version > Record::decode(&own)?.version => Some(older.into()),
        (Some(own), _) => Some(own),
        (None, older) => older.map(Arc::from),
    })
}

fn read(state: &impl StateReader, key: &MapKey<'_>) -> Result<Option<Record>, Error> {
    state.get(&key.path()).map(|record| Record::decode(&record)).transpose()
}

fn parameters(state: &impl StateReader) -> Result<Parameters, Error> {
    let record = read(state, &MapKey::Parameters)?.ok_or_else(|| Error::malformed("a state without parameters"))?;
    let values = record.parameters.try_into().map_err(|_| Error::malformed("a state with other parameters than those of P6"))?;
    Parameters::from_values(values)
}

fn bad<T>(why: impl std::fmt::Display) -> Result<T, Error> {
    Err(Error::rule("bad_table", format!("the table is refused: {why}")))
}
