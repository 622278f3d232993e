//! The bytes of a table file (P43): a head, then entries that ascend and do not overlap.
//!
//! ```text
//! head     [1, suite, genesis hash, city, class, base, depth, version, previous or null, seed, count, templates]
//! run      [first, count, step, template, status, height]     records of version 1 without fields of their own
//! single   [index, record]
//! ```
//! Nothing of a leaf is stored that follows from the rest: not the codes and records of a run, not the salts.
use super::tree::leaf_salt;
use super::{check_index, MILLION_DEPTH, THOUSAND_DEPTH};
use crate::code::{Category, City, Class, Code, Model, Org, Serial, Series, Use, SERIAL_AND_CHECK};
use crate::error::Error;
use crate::hash::{Hash, Suite};
use crate::ledger::operation::Range;
use crate::map_key::Kind;
use crate::record::{Record, Status, MAX_RECORD};
use crate::wire::{Decoder, Encoder};

/// The most templates of a file.
pub const MAX_TEMPLATES: usize = 4_096;
/// No head is longer than this.
pub const MAX_HEAD: usize = 256 + MAX_TEMPLATES * 32;
/// No entry is longer than this.
pub const MAX_ENTRY: usize = MAX_RECORD + 16;

const FORMAT: u64 = 1;

/// Who issues the items of a run, and as what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Template {
    /// The organisation; none when the city itself issues.
    pub org: Option<Org>,
    /// What the codes are for.
    pub use_: Use,
    /// The model within the class of the range.
    pub model: Model,
}

/// The head of a table file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The network.
    pub genesis: Hash,
    /// The range whose table it is.
    pub range: Range,
    /// Version of the table, from 1.
    pub version: u64,
    /// Digest of the file of the version before; none for version 1.
    pub previous: Option<Hash>,
    /// The salts of its leaves are made from it.
    pub seed: [u8; 32],
    /// How many leaves are not empty.
    pub count: u32,
    /// Ascending and unique.
    pub templates: Vec<Template>,
}

impl Head {
    /// The depth of the table.
    pub fn depth(&self) -> u8 {
        depth_of(&self.range)
    }

    /// How many serials the range has.
    pub fn size(&self) -> u32 {
        size_of(self.depth())
    }

    /// The serial of a leaf.
    pub fn serial(&self, index: u32) -> Result<Serial, Error> {
        check_index(self.depth(), index)?;
        Serial::new(self.range.base.get() + index)
    }

    /// The leaf of a serial.
    ///
    /// Errors: [`Error::Malformed`] when the range does not hold it.
    pub fn index(&self, serial: Serial) -> Result<u32, Error> {
        match serial.get().checked_sub(self.range.base.get()) {
            Some(index) if index < self.size() => Ok(index),
            _ => Err(Error::malformed(format!(
                "serial {serial} is outside the range of {} serials from {}; ask the table of its own range",
                self.size(),
                self.range.base
            ))),
        }
    }

    /// The salt of a leaf.
    pub fn salt(&self, index: u32, record: &[u8]) -> [u8; 16] {
        leaf_salt(&self.seed, index, record)
    }

    /// The category of a template in this range.
    pub fn category(&self, template: &Template) -> Category {
        Category { use_: template.use_, class: self.range.class, model: template.model }
    }

    /// Writes the head.
    pub fn encode(&self, out: &mut Encoder) {
        out.array(12).uint(FORMAT).uint(Suite::Ed25519Sha256 as u64).bytes(&self.genesis);
        out.text(self.range.city.as_str()).text(self.range.class.as_str()).uint(u64::from(self.range.base.get()));
        out.uint(u64::from(self.depth())).uint(self.version).bytes_or_null(self.previous.as_ref().map(|digest| &digest[..]));
        out.bytes(&self.seed).uint(u64::from(self.count)).array(self.templates.len());
        for template in &self.templates {
            out.array(3);
            match &template.org {
                Some(org) => out.text(org.as_str()),
                None => out.null(),
            };
            out.text(template.use_.as_str()).text(template.model.as_str());
        }
    }

    /// Reads a head.
    pub fn decode(decoder: &mut Decoder<'_>) -> Result<Head, Error> {
        decoder.array_of(12)?;
        let format = decoder.uint()?;
        if format != FORMAT {
            return Err(Error::malformed(format!("a table file of format {format}; known: {FORMAT}")));
        }
        Suite::parse(decoder.uint()?)?;
        let genesis = decoder.hash()?;
        let (city, class) = (City::parse(decoder.text(6)?)?, Class::parse(decoder.text(6)?)?);
        let base = Serial::new(decoder.uint_to(u64::from(Serial::MAX.get()))? as u32)?;
        let size = match decoder.uint()? {
            depth if depth == u64::from(THOUSAND_DEPTH) => 1_000,
            depth if depth == u64::from(MILLION_DEPTH) => 1_000_000,
            depth => return Err(Error::malformed(format!("a table of depth {depth}; known: {THOUSAND_DEPTH} and {MILLION_DEPTH}"))),
        };
        let range = Range::new(city, class, base, size)?;
        let version = decoder.uint()?;
        let previous = if decoder.null() { None } else { Some(decoder.hash()?) };
        if version == 0 || (version == 1) != previous.is_none() {
            return Err(Error::malformed(format!("a table of version {version} that does not fit the digest of the version before")));
        }
        let seed = decoder.fixed()?;
        let count = decoder.uint_to(size)? as u32;
        let templates = decode_templates(decoder)?;
        Ok(Head { genesis, range, version, previous, seed, count, templates })
    }

    /// Reads the record of a single leaf and checks that it is an item whose own code is of this place.
    pub fn item(&self, index: u32, record: &[u8]) -> Result<(Record, Code), Error> {
        let item = Record::decode(record)?;
        if item.kind != Kind::Item {
            return self.refuse(index, format!("it is a {} record, not one of an item", item.kind.name()));
        }
        let serial = self.serial(index)?;
        let text = item.code.as_deref().unwrap_or_default();
        match Code::parse(text, None) {
            Ok(code @ Code::Item { city, category, serial: own, .. })
                if city == self.range.city && category.class == self.range.class && own == serial && code.text() == text =>
            {
                Ok((item, code))
            }
            _ => self.refuse(index, format!("its code {text:?} is not one of this city, class and serial")),
        }
    }

    fn refuse<T>(&self, index: u32, why: String) -> Result<T, Error> {
        Err(Error::malformed(format!("the record of serial {} in the table is refused: {why}", self.range.base.get() + index)))
    }
}

/// The depth of the table of a range.
pub fn depth_of(range: &Range) -> u8 {
    if range.size == 1_000 {
        THOUSAND_DEPTH
    } else {
        MILLION_DEPTH
    }
}

/// How many leaves a table of this depth may hold.
pub fn size_of(depth: u8) -> u32 {
    if depth == THOUSAND_DEPTH {
        1_000
    } else {
        1_000_000
    }
}

fn decode_templates(decoder: &mut Decoder<'_>) -> Result<Vec<Template>, Error> {
    let count = decoder.list(MAX_TEMPLATES, 7)?;
    let mut templates: Vec<Template> = Vec::with_capacity(count);
    for _ in 0..count {
        decoder.array_of(3)?;
        let org = if decoder.null() { None } else { Some(exact(decoder.text(8)?, Org::parse, |org| org.to_string())?) };
        let use_ = Use::parse(decoder.text(2)?)?;
        let model = exact(decoder.text(8)?, Model::parse, |model| model.to_string())?;
        let template = Template { org, use_, model };
        if templates.last().is_some_and(|last| *last >= template) {
            return Err(Error::malformed("templates of a table that are repeated or not ascending"));
        }
        templates.push(template);
    }
    Ok(templates)
}

/// A field that must be written as it is: codes take lower case from people, formats do not.
fn exact<T>(text: &str, parse: impl Fn(&str) -> Result<T, Error>, write: impl Fn(&T) -> String) -> Result<T, Error> {
    let value = parse(text)?;
    if write(&value) != text {
        return Err(Error::malformed(format!("{text:?} in a template of a table is not in upper case")));
    }
    Ok(value)
}

/// Leaves at equal steps whose records differ only in their serial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Index of the first leaf.
    pub first: u32,
    /// How many, at least 2 in a file.
    pub count: u32,
    /// From one to the next.
    pub step: u32,
    /// Position among the head's templates.
    pub template: u16,
    /// Active or allocated, as version 1 of an item is.
    pub status: Status,
    /// Height of the records.
    pub height: u64,
}

impl Run {
    /// Index of the last leaf.
    pub fn last(&self) -> u32 {
        self.first + (self.count - 1) * self.step
    }

    /// Whether another leaf differs from this run's only by its serial.
    pub fn is_like(&self, other: &Run) -> bool {
        (self.template, self.status, self.height) == (other.template, other.status, other.height)
    }

    /// The leaves of the run from one index up to another, both steps of the run or not.
    pub fn within(&self, from: u32, to: u32) -> impl Iterator<Item = u32> {
        let skipped = from.saturating_sub(self.first).div_ceil(self.step);
        let run = *self;
        (skipped..self.count).map(move |position| run.first + position * run.step).take_while(move |index| *index < to)
    }
}

/// One entry of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry<'a> {
    /// Many leaves.
    Run(Run),
    /// One leaf, with its record.
    Single(u32, &'a [u8]),
}

impl<'a> Entry<'a> {
    /// Index of its last leaf.
    pub fn last(&self) -> u32 {
        match self {
            Entry::Run(run) => run.last(),
            Entry::Single(index, _) => *index,
        }
    }

    /// Writes the entry.
    pub fn encode(&self, out: &mut Encoder) {
        match self {
            Entry::Run(run) => {
                out.array(6).uint(u64::from(run.first)).uint(u64::from(run.count)).uint(u64::from(run.step));
                out.uint(u64::from(run.template)).uint(run.status.number()).uint(run.height);
            }
            Entry::Single(index, record) => {
                out.array(2).uint(u64::from(*index)).bytes(record);
            }
        }
    }

    /// Reads an entry of a range of `size` serials whose first leaf is at least `least`. The record of a single leaf is not looked
    /// into: [`Head::item`] does.
    pub fn decode(decoder: &mut Decoder<'a>, size: u32, templates: usize, least: u32) -> Result<Entry<'a>, Error> {
        let fields = decoder.array(6)?;
        let first = decoder.uint_to(u64::from(size) - 1)? as u32;
        if first < least {
            return Err(Error::malformed(format!("entries of a table that overlap or do not ascend, at index {first}")));
        }
        match fields {
            2 => Ok(Entry::Single(first, decoder.bytes(MAX_RECORD)?)),
            6 => {
                let count = decoder.uint_to(u64::from(size))? as u32;
                let step = decoder.uint_to(u64::from(size))? as u32;
                let template = decoder.uint()?;
                let status = Status::parse(decoder.uint()?)?;
                let height = decoder.uint()?;
                let refuse = |why: &str| Err(Error::malformed(format!("the run of a table at index {first} {why}")));
                if count < 2 || step == 0 {
                    return refuse("has fewer than two leaves, or none at a distance");
                }
                if u64::from(first) + u64::from(count - 1) * u64::from(step) >= u64::from(size) {
                    return refuse("leaves its range");
                }
                if template >= templates as u64 {
                    return refuse("names a template that the head does not have");
                }
                if !matches!(status, Status::Active | Status::Allocated) {
                    return refuse("has a status that no item begins with; active or allocated");
                }
                Ok(Entry::Run(Run { first, count, step, template: template as u16, status, height }))
            }
            _ => Err(Error::malformed(format!("an entry of a table with {fields} fields; a run has six, a single leaf two"))),
        }
    }
}

/// The records of a run, one after the other: only the end of the code changes.
#[derive(Clone, Debug)]
pub struct PlainRecords {
    series: Series,
    record: Vec<u8>,
}

impl PlainRecords {
    /// Records of a template with a status and height.
    pub fn new(head: &Head, template: &Template, status: Status, height: u64) -> PlainRecords {
        let category = head.category(template);
        let code = Code::Item { city: head.range.city, org: template.org, category, serial: head.range.base };
        let mut record = Record::new(Kind::Item, height);
        record.status = status;
        record.code = Some(code.text());
        PlainRecords { series: Series::new(head.range.city, template.org, category), record: record.encode() }
    }

    /// The encoded record of a serial. The code is the last field, and its end all that depends on the serial.
    pub fn at(&mut self, serial: Serial) -> &[u8] {
        let end = self.record.len() - SERIAL_AND_CHECK;
        self.record[end..].copy_from_slice(&self.series.end(serial));
        &self.record
    }
}

/// Calls `visit` with every leaf of some entries from one index up to another, ascending.
pub fn for_each_leaf(
    head: &Head,
    entries: &[Entry<'_>],
    (from, to): (u32, u32),
    mut visit: impl FnMut(u32, Held<'_>) -> Result<(), Error>,
) -> Result<(), Error> {
    for entry in entries {
        match entry {
            Entry::Single(index, record) if (from..to).contains(index) => visit(*index, Held::Single(record))?,
            Entry::Single(..) => {}
            Entry::Run(run) => {
                let Some(template) = head.templates.get(usize::from(run.template)) else {
                    return Err(Error::malformed("a run of a table names a template that the head does not have"));
                };
                let mut records = PlainRecords::new(head, template, run.status, run.height);
                for index in run.within(from, to) {
                    visit(index, Held::Plain(records.at(head.serial(index)?), run))?;
                }
            }
        }
    }
    Ok(())
}

/// A leaf as a file gives it.
#[derive(Clone, Copy, Debug)]
pub enum Held<'a> {
    /// Of a run: its record follows from the run.
    Plain(&'a [u8], &'a Run),
    /// With a record of its own.
    Single(&'a [u8]),
}

impl<'a> Held<'a> {
    /// The encoded record.
    pub fn record(&self) -> &'a [u8] {
        match self {
            Held::Plain(record, _) | Held::Single(record) => record,
        }
    }
}
