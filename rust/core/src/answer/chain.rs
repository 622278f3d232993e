//! The chain of records from the network down to a subject: which ones an answer shows, and what they mean together (P39).
//!
//! [`judge`] is the one reading of a chain. The verifier runs it on what an answer shows, the builder and the resolver on what a state
//! holds, so they cannot disagree. `collect` only gathers, from a state, the records that `judge` will want.
//!
//! Rules:
//! - Map keys are derived from the subject and from records above, never taken from the answer.
//! - Each record must say where its children live before a child is read there or found missing there. A missing child proves
//!   nothing without the deepest existing record above it: an item of a sealed range, too, has no map entry.
//! - Each subject and state have exactly one chain; a record too many is refused like one too few.
//! - Everything here is about records whose proofs are checked elsewhere. `judge` names the paths to prove and the table root.
//!
//! | subject | chain after network and city |
//! |---|---|
//! | city that is no member | city: null, and nothing after it |
//! | city | none |
//! | organisation, category | organisation (if the code has one), category; ends at the first null |
//! | item, registered | organisation (if its code has one), range that holds it, item |
//! | item, not registered | deepest existing of (city, class), open million, held range; the missing child: null |
//! | item of a sealed range | as above; the item's own entry stands only while the range counts overrides |
//! | foreign | (no city) foreign or null |
//! | named alias | alias or null; then, when it names an item, as that item |
//! | 21 digits of no member city | city: null, district or null; then the district's city and, as an alias of it, the 21 digits |
use super::verdict::VerdictKind;
use crate::code::{City, Class, Code, Members, NamedAlias, Serial, Subject};
use crate::error::Error;
use crate::hash::Hash;
use crate::map_key::{Kind, MapKey};
use crate::record::{Children, Record, Status, Table};
use crate::table::{TableProof, MILLION_DEPTH, THOUSAND_DEPTH};

/// What an answer is about, read without a member list: membership is proven by the city's record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// A code that fits the grammar.
    Code(Code),
    /// The place that a 21-digit alias names.
    Place(Place),
    /// An alias in a namespace.
    Named(NamedAlias),
    /// A foreign code.
    Foreign(String),
    /// It fits the grammar but for its check character: foreign if the city is no member, else a mistake.
    Mistyped { city: City, text: String },
}

/// The place of an item: whatever code stands there, it is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub city: City,
    pub class: Class,
    pub serial: Serial,
}

impl Asked {
    /// Reads a subject, or a text that carries one.
    pub fn parse(text: &str) -> Result<Asked, Error> {
        let mistake = match Subject::parse(text, None) {
            Ok(Subject::Code(Code::Foreign(foreign))) => return Ok(Asked::Foreign(foreign.as_str().to_owned())),
            Ok(Subject::Code(code)) => return Ok(Asked::Code(code)),
            Ok(Subject::Alias(alias)) => return Ok(Asked::Place(Place { city: alias.city, class: alias.class, serial: alias.serial })),
            Ok(Subject::Named(named)) => return Ok(Asked::Named(named)),
            Err(mistake) => mistake,
        };
        // Without any member every fitting string is foreign. Only a wrong check character makes the difference.
        match Subject::parse(text, Some(&Members::from_iter([]))) {
            Ok(Subject::Code(Code::Foreign(foreign))) => {
                let text = foreign.as_str().to_owned();
                let city = text.get(CITY_DIGITS).ok_or(mistake)?;
                Ok(Asked::Mistyped { city: City::parse(city)?, text })
            }
            _ => Err(mistake),
        }
    }

    /// The canonical text.
    pub fn text(&self) -> String {
        match self {
            Asked::Code(code) => code.text(),
            Asked::Place(place) => format!("{}{}{}", place.city, place.class, place.serial),
            Asked::Named(named) => named.to_string(),
            Asked::Foreign(text) | Asked::Mistyped { text, .. } => text.clone(),
        }
    }

    pub fn place(&self) -> Option<Place> {
        match self {
            Asked::Code(Code::Item { city, category, serial, .. }) => Some(Place { city: *city, class: category.class, serial: *serial }),
            Asked::Place(place) => Some(*place),
            _ => None,
        }
    }
}

/// One shown record, decoded.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    kind: Kind,
    record: Option<Record>,
}

impl Entry {
    /// Decodes a record and checks that it is of the kind it is shown as.
    pub fn decode(kind: Kind, bytes: Option<&[u8]>) -> Result<Entry, Error> {
        let record = bytes.map(Record::decode).transpose()?;
        if let Some(record) = record.as_ref().filter(|record| record.kind != kind) {
            return refuse(format!("a {} record is shown as one of kind {}", record.kind.name(), kind.name()));
        }
        Ok(Entry { kind, record })
    }
}

/// What a chain says, should its proofs hold.
#[derive(Clone, Debug)]
pub(super) struct Finding {
    pub verdict: VerdictKind,
    /// Effective status (P13), of a registered subject.
    pub status: Option<Status>,
    /// The record that decides, with the code it belongs to: the subject's, or the other one of a mismatch.
    pub record: Option<Record>,
    pub code: Option<String>,
    pub notes: Vec<String>,
    /// The path of each entry, in order.
    pub paths: Vec<Hash>,
    /// The table that the shown leaf must be proven under.
    pub sealed: Option<Sealed>,
    /// The network says that it is for tests.
    pub test: bool,
}

/// A sealed range, and the place of a serial in its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sealed {
    pub table: Table,
    pub index: u32,
}

/// Reads a chain. `table` is what is shown of the sealed table, if anything.
///
/// Errors: [`Error::Proof`] when the records are not the ones that decide about the subject, or contradict each other.
pub(super) fn judge(asked: &Asked, entries: &[Entry], table: Option<&TableProof>) -> Result<Finding, Error> {
    let mut chain = Chain { entries, statuses: Vec::new(), finding: Finding::new() };
    chain.decide(asked, table)?;
    if let Some(entry) = chain.entries.first() {
        return refuse(format!("a record of kind {} is shown that says nothing about this subject", entry.kind.name()));
    }
    if table.is_some() && chain.finding.sealed.is_none() {
        return refuse("a table proof is shown, and no sealed range is involved");
    }
    let Chain { statuses, mut finding, .. } = chain;
    note_pending(entries, &mut finding);
    if finding.verdict == VerdictKind::Registered {
        // P13: the worst along the chain.
        finding.status = statuses.iter().map(|(_, status, _)| *status).max();
        let by_city = statuses.iter().filter(|(_, status, by_city)| *by_city && *status != Status::Active);
        finding.notes.extend(by_city.map(|(kind, status, _)| format!("the {} was set to {} by its city", kind.name(), status.name())));
    }
    Ok(finding)
}

/// P54, P56: what is about to change of the record that decides and of those above it. About registration, never about the thing.
fn note_pending(entries: &[Entry], finding: &mut Finding) {
    // Of an item the record that decides counts, which may stand in a table.
    let above = entries.iter().filter(|entry| entry.kind != Kind::Item).filter_map(|entry| entry.record.as_ref());
    let item = finding.record.as_ref().filter(|record| record.kind == Kind::Item);
    let mut notes = Vec::new();
    for record in above.chain(item) {
        let name = record.kind.name();
        if let Some(recovery) = &record.recovery {
            notes.push(format!(
                "a recovery of the keys of the {name} is under way: from height {} on other keys may take over",
                recovery.due
            ));
        }
        if let Some(receiver) = &record.offered_to {
            let what = if record.kind == Kind::Item { "item".to_owned() } else { format!("{name} range that holds it") };
            notes.push(format!("the {what} is offered to {receiver}, who has not accepted yet"));
        }
    }
    finding.notes.extend(notes);
}

impl Finding {
    fn new() -> Finding {
        Finding {
            verdict: VerdictKind::NotRegistered,
            status: None,
            record: None,
            code: None,
            notes: Vec::new(),
            paths: Vec::new(),
            sealed: None,
            test: false,
        }
    }

    fn registered(&mut self, record: &Record, code: String) {
        self.verdict = VerdictKind::Registered;
        self.record = Some(record.clone());
        self.code = Some(code);
    }
}

/// The entries that are still to be read, and what was learnt from those before.
struct Chain<'a> {
    entries: &'a [Entry],
    /// What counts for the effective status, and whether the city set it.
    statuses: Vec<(Kind, Status, bool)>,
    finding: Finding,
}

impl<'a> Chain<'a> {
    fn decide(&mut self, asked: &Asked, table: Option<&TableProof>) -> Result<(), Error> {
        let network = self.present(&MapKey::Network)?;
        children_in_map(network)?;
        self.finding.test = network.test;
        let city = match asked {
            Asked::Foreign(text) => {
                self.finding.verdict = VerdictKind::NotOurs;
                self.finding.record = self.next(&MapKey::Foreign(text))?.cloned();
                return Ok(());
            }
            Asked::Code(code) => code.city().ok_or_else(|| Error::malformed("a native code without a city"))?,
            Asked::Place(place) => place.city,
            Asked::Named(named) => named.city(),
            Asked::Mistyped { city, .. } => *city,
        };
        let Some(city_record) = self.next(&MapKey::City(city))? else {
            if let Asked::Place(place) = asked {
                return self.district(place.city, &asked.text(), table);
            }
            self.finding.verdict = VerdictKind::NotOurs;
            self.finding.notes.push(format!("{city} is not a member city"));
            return Ok(());
        };
        children_in_map(city_record)?;
        match asked {
            Asked::Code(code @ Code::City { .. }) => {
                self.finding.registered(city_record, code.text());
                Ok(())
            }
            Asked::Code(code @ Code::Org { org, .. }) => {
                if let Some(record) = self.next(&MapKey::Organisation(city, *org))? {
                    self.finding.registered(record, code.text());
                }
                Ok(())
            }
            Asked::Code(code @ Code::Category { org, category, .. }) => {
                if let Some(org) = org {
                    // Without its holder a category cannot exist (P12), so the chain ends there.
                    let Some(holder) = self.next(&MapKey::Organisation(city, *org))? else { return Ok(()) };
                    children_in_map(holder)?;
                }
                if let Some(record) = self.next(&MapKey::Category(city, *org, *category))? {
                    self.finding.registered(record, code.text());
                }
                Ok(())
            }
            Asked::Named(named) => self.alias(city, named.namespace(), named.alias(), table),
            Asked::Mistyped { .. } => {
                refuse("the subject fails only its check character, and its city is a member: it is mistyped, not foreign")
            }
            Asked::Code(Code::Item { .. } | Code::Foreign(_)) | Asked::Place(_) | Asked::Foreign(_) => match asked.place() {
                Some(place) => self.item(asked, &place, table),
                None => refuse("the subject names no place of an item"),
            },
        }
    }

    /// An old number whose first six digits are no member city (P73).
    fn district(&mut self, district: City, number: &str, table: Option<&TableProof>) -> Result<(), Error> {
        let Some(record) = self.next(&MapKey::District(district))? else {
            self.finding.verdict = VerdictKind::NotOurs;
            self.finding.notes.push(format!("{district} is neither a member city nor a district of one"));
            return Ok(());
        };
        // Absent as a city, it cannot be its own district: two claims about one path would stand in one answer.
        let Some(city) = record.administered_by.filter(|city| *city != district) else {
            return refuse("the record of the district names no other city");
        };
        children_in_map(self.present(&MapKey::City(city))?)?;
        self.finding.notes.push(format!("{district} is a district of {city}"));
        self.alias(city, city.as_str(), number, table)
    }

    fn alias(&mut self, city: City, namespace: &str, alias: &str, table: Option<&TableProof>) -> Result<(), Error> {
        let Some(record) = self.next(&MapKey::Alias(namespace, alias.as_bytes()))? else {
            self.finding.notes.push(format!("{alias} is no alias of {namespace}"));
            return Ok(());
        };
        let (code, place) = named_place(record, city)?;
        self.finding.notes.push(format!("{alias} of {namespace} stands for {code}"));
        self.finding.code = Some(code.text());
        self.item(&Asked::Code(code), &place, table)
    }

    fn item(&mut self, asked: &Asked, place: &Place, table: Option<&TableProof>) -> Result<(), Error> {
        let own = self.entries.last().filter(|entry| entry.kind == Kind::Item).and_then(|entry| entry.record.as_ref());
        let leaf = match table.and_then(|table| table.leaf.as_ref()) {
            Some(leaf) => Entry::decode(Kind::Item, Some(&leaf.record))?.record,
            None => None,
        };
        let Some(record) = newer(own, leaf.as_ref()) else { return self.missing_item(place, table) };
        let code = place.code_of(record)?;
        if let Some(org) = code.org() {
            self.present(&MapKey::Organisation(place.city, org))?;
        }
        match self.range(place)? {
            Range::Open => return refuse("an item is shown in a million range that is divided into thousands, without its thousand"),
            Range::Items => {
                self.next(&place.item_key())?;
            }
            Range::Sealed(sealed) => {
                self.finding.sealed = Some(sealed);
                if sealed.table.overrides > 0 {
                    self.next(&place.item_key())?;
                }
                // An override from after the seal is newer than any leaf. An older one, or one of the very block, whose order
                // is not shown, may have been taken up by the table and versioned there.
                if table.is_none() && record.height <= sealed.table.height {
                    return self.unavailable();
                }
            }
        }
        // Of a sealed item, the version that decides has not been counted yet, or an older one has.
        self.statuses.retain(|(kind, ..)| *kind != Kind::Item);
        self.statuses.push((Kind::Item, record.status, record.status_by_city));
        self.finding.registered(record, code.text());
        if matches!(asked, Asked::Code(asked) if *asked != code) {
            self.finding.verdict = VerdictKind::Mismatch;
        }
        Ok(())
    }

    fn missing_item(&mut self, place: &Place, table: Option<&TableProof>) -> Result<(), Error> {
        let Place { city, class, serial } = *place;
        if self.entries.first().is_some_and(|entry| entry.kind == Kind::Class) {
            if let Some(record) = self.next(&MapKey::Class(city, class))? {
                children_in_map(record)?;
                self.absent(&MapKey::Million(city, class, serial))?;
            }
            return Ok(());
        }
        match self.range(place)? {
            Range::Open => self.absent(&MapKey::Thousand(city, class, serial)),
            Range::Items => self.absent(&place.item_key()),
            Range::Sealed(sealed) => {
                self.finding.sealed = Some(sealed);
                if sealed.table.overrides > 0 {
                    self.absent(&place.item_key())?;
                }
                match table {
                    Some(_) => Ok(()),
                    None => self.unavailable(),
                }
            }
        }
    }

    /// The sealed table decides, and is not shown.
    fn unavailable(&mut self) -> Result<(), Error> {
        self.finding.verdict = VerdictKind::Unavailable;
        self.finding.notes.push("the range is sealed and its table was not at hand; ask another gateway".to_owned());
        Ok(())
    }

    /// The range record that comes next.
    fn range(&mut self, place: &Place) -> Result<Range, Error> {
        let key = match self.entries.first().map(|entry| entry.kind) {
            Some(Kind::Million) => MapKey::Million(place.city, place.class, place.serial),
            _ => MapKey::Thousand(place.city, place.class, place.serial),
        };
        Range::read(self.present(&key)?, place)
    }

    fn next(&mut self, key: &MapKey<'_>) -> Result<Option<&'a Record>, Error> {
        let wanted = key.kind();
        match self.entries.split_first() {
            Some((entry, rest)) if entry.kind == wanted => {
                self.entries = rest;
                self.finding.paths.push(key.path());
                if let Some(record) = &entry.record {
                    self.statuses.push((wanted, record.status, record.status_by_city));
                }
                Ok(entry.record.as_ref())
            }
            Some((entry, _)) => {
                refuse(format!("a record of kind {} stands where one of kind {} belongs", entry.kind.name(), wanted.name()))
            }
            None => refuse(format!("the record of kind {} is missing", wanted.name())),
        }
    }

    fn present(&mut self, key: &MapKey<'_>) -> Result<&'a Record, Error> {
        match self.next(key)? {
            Some(record) => Ok(record),
            None => {
                refuse(format!("the record of kind {} is shown as absent, and what is below it cannot be without it", key.kind().name()))
            }
        }
    }

    fn absent(&mut self, key: &MapKey<'_>) -> Result<(), Error> {
        match self.next(key)? {
            None => Ok(()),
            Some(_) => refuse(format!("the chain ends at a {} that exists; what is below it is missing", key.kind().name())),
        }
    }
}

impl Place {
    pub fn item_key(&self) -> MapKey<'static> {
        MapKey::Item(self.city, self.class, self.serial)
    }

    /// The code of an item record, which must be one of this place.
    pub fn code_of(&self, record: &Record) -> Result<Code, Error> {
        let text = record.code.as_deref().unwrap_or_default();
        match Code::parse(text, None) {
            Ok(code) if Asked::Code(code.clone()).place() == Some(*self) && code.text() == text => Ok(code),
            _ => refuse(format!("the item's record holds {text:?}, which is not a code of this city, class and serial")),
        }
    }
}

/// The item that an alias of a city names.
pub(super) fn named_place(record: &Record, city: City) -> Result<(Code, Place), Error> {
    let text = record.code.as_deref().unwrap_or_default();
    let asked = Asked::Code(Code::parse(text, None)?);
    match (asked.place(), asked) {
        (Some(place), Asked::Code(code)) if place.city == city && code.text() == text => Ok((code, place)),
        _ => refuse(format!("the alias names {text:?}, which is not the code of an item of {city}")),
    }
}

/// Where the items of a range live, from a record whose fields fit each other.
pub(super) enum Range {
    /// A million range that nobody holds, open for thousands.
    Open,
    /// Single items in the map.
    Items,
    /// In a table.
    Sealed(Sealed),
}

impl Range {
    /// Refuses a range that contradicts itself: a thousand range that is divided, a divided range that somebody holds, a held
    /// range that nobody holds, children nowhere, or a table of the wrong depth.
    pub fn read(record: &Record, place: &Place) -> Result<Range, Error> {
        let (depth, size) = if record.kind == Kind::Million { (MILLION_DEPTH, 1_000_000) } else { (THOUSAND_DEPTH, 1_000) };
        match (record.children, &record.holder, &record.table) {
            (Children::Map, None, None) if record.kind == Kind::Million => Ok(Range::Open),
            (Children::Items, Some(_), None) => Ok(Range::Items),
            (Children::Table, Some(_), Some(table)) if table.depth == depth => {
                Ok(Range::Sealed(Sealed { table: *table, index: place.serial.get() % size }))
            }
            _ => refuse(format!("the {} range contradicts itself about who holds it and where its items are", record.kind.name())),
        }
    }
}

/// P41: between leaf and override the higher version wins, and of equal ones the override.
pub(super) fn newer<'r>(own: Option<&'r Record>, leaf: Option<&'r Record>) -> Option<&'r Record> {
    match (own, leaf) {
        (Some(own), Some(leaf)) if leaf.version > own.version => Some(leaf),
        (own, leaf) => own.or(leaf),
    }
}

fn children_in_map(record: &Record) -> Result<(), Error> {
    if record.children == Children::Map {
        return Ok(());
    }
    refuse(format!("the {} record does not say that its children live in the map", record.kind.name()))
}

fn refuse<T>(why: impl std::fmt::Display) -> Result<T, Error> {
    Err(Error::proof(format!("{why}; fetch the answer again, from another gateway if this repeats")))
}

/// Where the digits of the city stand in a string that fits the grammar: after `MA.156.`.
const CITY_DIGITS: std::ops::Range<usize> = 7..13;
