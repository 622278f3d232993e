//! Building a table file: new leaves are gathered, sorted and packed into segments; segments and the file of the version before are
//! merged into the new file.
//!
//! ```text
//! add_run, add_list, add_rows, add_records ──► leaves in memory ──► segment (entries, ascending)      whenever memory is full
//! previous file, segments ──────────────────► Merger ──► head, entries
//! ```
//! Whoever calls keeps the segments, on disk or in memory: this file reads and writes slices. Memory is bounded by what the caller
//! lets gather, by one entry a source, and by two bits a serial.
//!
//! Of one serial there may be one new leaf. It stands beside an older one of the previous file only when it came as a record, and then
//! replaces it. Whether a later version follows from the one before is for those who keep the table to check (P44).
use super::file::{Entry, Head, PlainRecords, Run, Template, MAX_ENTRY, MAX_TEMPLATES};
use super::index::{Index, Occupied};
use super::rows::{at_line, MadeRow, RowContext, Rows};
use crate::code::{Model, Org, Serial, Use};
use crate::error::Error;
use crate::hash::Hash;
use crate::ledger::operation::Range;
use crate::record::{Record, Status};
use crate::wire::{Decoder, Encoder};
use std::collections::BTreeMap;

/// What is said of a table before its first leaf.
#[derive(Clone, Debug)]
pub struct Spec {
    /// The network.
    pub genesis: Hash,
    /// The range.
    pub range: Range,
    /// Its holder; none when the city itself holds it.
    pub org: Option<Org>,
    /// Random, fresh for every version.
    pub seed: [u8; 32],
    /// Height of new records: one that was decided.
    pub height: u64,
}

/// New leaves at equal steps, or one with its record.
#[derive(Clone, Copy, Debug)]
enum Gathered {
    Run(Run),
    Single { index: u32, start: usize, end: usize },
}

/// See the head of the file.
#[derive(Debug)]
pub struct Builder {
    /// Templates in the order of first use; the count is that of the finish.
    head: Head,
    org: Option<Org>,
    height: u64,
    templates: BTreeMap<Template, u16>,
    before: Option<(Head, Occupied)>,
    taken: Occupied,
    gathered: Vec<Gathered>,
    records: Vec<u8>,
    /// None after a row was refused.
    rows: Option<Rows>,
}

impl Builder {
    /// A builder of version 1, or of the version after a file.
    ///
    /// Errors: [`Error::Malformed`] when that file is of another network or range.
    pub fn new(spec: Spec, previous: Option<(&Index, Occupied)>) -> Result<Builder, Error> {
        let mut head =
            Head { genesis: spec.genesis, range: spec.range, version: 1, previous: None, seed: spec.seed, count: 0, templates: Vec::new() };
        if spec.height > i64::MAX as u64 {
            return Err(Error::malformed("a height above 2^63 - 1"));
        }
        let before = match previous {
            Some((index, occupied)) => {
                if (index.head().genesis, index.head().range) != (spec.genesis, spec.range) {
                    return Err(Error::malformed("the previous file is a table of another range or network; give the one of this range"));
                }
                head.version = index.head().version + 1;
                head.previous = Some(index.digest());
                Some((index.head().clone(), occupied))
            }
            None => None,
        };
        Ok(Builder {
            rows: Some(Rows::new(RowContext { head: head.clone(), org: spec.org, height: spec.height, category: None })),
            taken: Occupied::new(head.size()),
            head,
            org: spec.org,
            height: spec.height,
            templates: BTreeMap::new(),
            before,
            gathered: Vec::new(),
            records: Vec::new(),
        })
    }

    /// Adds serials from one to another at equal steps; how many.
    ///
    /// Errors: [`Error::Malformed`] for serials outside the range, no step or a status that no item begins with; `Rule` (`exists`) for
    /// a serial that the table holds already. Nothing is added then.
    pub fn add_run(&mut self, use_: Use, model: Model, first: Serial, last: Serial, step: u32, status: Status) -> Result<u32, Error> {
        check_first_status(status)?;
        if first > last || step == 0 {
            return Err(Error::malformed(format!("no serials from {first} to {last} in steps of {step}")));
        }
        let first = self.head.index(first)?;
        let last = self.head.index(last)?;
        let template = self.template(use_, model)?;
        let run = Run { first, count: (last - first) / step + 1, step, template, status, height: self.height };
        let mut taken = self.taken.clone();
        for index in run.within(0, self.head.size()) {
            self.take_new(&mut taken, index)?;
        }
        self.taken = taken;
        self.gather(run);
        Ok(run.count)
    }

    /// Adds serials that ascend; how many.
    ///
    /// Errors: as [`Builder::add_run`], and [`Error::Malformed`] when they do not ascend.
    pub fn add_list(&mut self, use_: Use, model: Model, serials: &[u32], status: Status) -> Result<u32, Error> {
        check_first_status(status)?;
        if let Some(pair) = serials.windows(2).find(|pair| pair[0] >= pair[1]) {
            return Err(Error::malformed(format!("serial {} of a list stands after {}; a list ascends", pair[1], pair[0])));
        }
        let template = self.template(use_, model)?;
        let mut taken = self.taken.clone();
        for serial in serials {
            let index = self.head.index(Serial::new(*serial)?)?;
            self.take_new(&mut taken, index)?;
        }
        self.taken = taken;
        for serial in serials {
            self.gather(Run { first: serial - self.head.range.base.get(), count: 1, step: 1, template, status, height: self.height });
        }
        Ok(serials.len() as u32)
    }

    /// Names the category of rows in whose text no column says it.
    pub fn set_category(&mut self, use_: Use, model: Model) {
        if let Some(rows) = &mut self.rows {
            rows.set_category(use_, model);
        }
    }

    /// Adds rows of a CSV text, piece after piece: the header comes first, and an empty piece ends the text. Gives the rows that
    /// open the commitments of this piece, to keep: `code,attribute,schema,salt,value`.
    ///
    /// `salts` is random and fresh for every call: the salt of each attribute value follows from it.
    ///
    /// Errors: [`Error::Malformed`] or [`Error::Code`], with the line; the builder is of no use then.
    pub fn add_rows(&mut self, text: &[u8], salts: &[u8; 32]) -> Result<Vec<u8>, Error> {
        let mut rows = self.rows.take().ok_or_else(refused_before)?;
        let shown = rows.feed(text, salts, |made, records| self.take_rows(made, records))?;
        self.rows = Some(rows);
        Ok(shown)
    }

    fn take_rows(&mut self, made: &[MadeRow], records: &[u8]) -> Result<(), Error> {
        let offset = self.records.len();
        let mut kept_records = false;
        for row in made {
            let fail = |error: Error| at_line(row.line, error);
            if self.before.as_ref().is_some_and(|(_, before)| before.holds(row.index)) || !self.taken.take(row.index) {
                return Err(fail(self.exists(row.index)));
            }
            match row.record {
                Some((start, end)) => {
                    kept_records = true;
                    self.gathered.push(Gathered::Single { index: row.index, start: start + offset, end: end + offset });
                }
                None => {
                    let template = self.template(row.use_, row.model).map_err(fail)?;
                    let run = Run { first: row.index, count: 1, step: 1, template, status: row.status, height: self.height };
                    self.gather(run);
                }
            }
        }
        if kept_records {
            self.records.extend_from_slice(records);
        }
        Ok(())
    }

    /// Adds records of items that the ledger holds: overrides to take up, and items that were registered singly. They replace what
    /// the previous file holds. How many.
    ///
    /// Errors: [`Error::Malformed`] for bytes that are no record of an item of the range; `Rule` (`exists`) for a second new leaf of
    /// one serial.
    pub fn add_records(&mut self, records: &[&[u8]]) -> Result<u32, Error> {
        let mut indexes = Vec::with_capacity(records.len());
        let mut taken = self.taken.clone();
        for record in records {
            let code = Record::decode(record)?.code.unwrap_or_default();
            let serial = crate::code::Code::parse(&code, None)?
                .serial()
                .ok_or_else(|| Error::malformed(format!("a record with the code {code:?}, which names no item")))?;
            let index = self.head.index(serial)?;
            self.head.item(index, record)?;
            if !taken.take(index) {
                return Err(self.exists(index));
            }
            indexes.push(index);
        }
        self.taken = taken;
        for (index, record) in indexes.into_iter().zip(records) {
            let start = self.records.len();
            self.records.extend_from_slice(record);
            self.gathered.push(Gathered::Single { index, start, end: self.records.len() });
        }
        Ok(records.len() as u32)
    }

    fn take_new(&self, taken: &mut Occupied, index: u32) -> Result<(), Error> {
        if self.before.as_ref().is_some_and(|(_, before)| before.holds(index)) || !taken.take(index) {
            return Err(self.exists(index));
        }
        Ok(())
    }

    fn exists(&self, index: u32) -> Error {
        let serial = self.head.range.base.get() + index;
        Error::rule("exists", format!("serial {serial} stands in the table already; a later version of an item is added as its record"))
    }

    fn template(&mut self, use_: Use, model: Model) -> Result<u16, Error> {
        let template = Template { org: self.org, use_, model };
        if let Some(number) = self.templates.get(&template) {
            return Ok(*number);
        }
        if self.templates.len() >= MAX_TEMPLATES {
            return Err(Error::malformed(format!(
                "more than {MAX_TEMPLATES} categories of items without attributes in one table; seal some of them in another range"
            )));
        }
        let number = self.templates.len() as u16;
        self.templates.insert(template, number);
        self.head.templates.push(template);
        Ok(number)
    }

    /// Adds a run, to the last one if that goes on with it.
    fn gather(&mut self, run: Run) {
        if let Some(Gathered::Run(last)) = self.gathered.last_mut() {
            if extend(last, &run) {
                return;
            }
        }
        self.gathered.push(Gathered::Run(run));
    }

    /// Bytes of memory that a segment would give back.
    pub fn gathered_bytes(&self) -> usize {
        self.records.len() + self.gathered.len() * size_of::<Gathered>()
    }

    /// Packs what was gathered since the last segment: entries that ascend.
    pub fn take_segment(&mut self) -> Result<Vec<u8>, Error> {
        // Their room is kept: the next segment needs it again.
        let mut gathered = std::mem::take(&mut self.gathered);
        let mut records = std::mem::take(&mut self.records);
        // Runs may interleave, so they are ordered leaf by leaf.
        let mut order: Vec<(u32, u32)> = Vec::new();
        for (position, leaves) in gathered.iter().enumerate() {
            match leaves {
                Gathered::Run(run) => order.extend(run.within(0, self.head.size()).map(|index| (index, position as u32))),
                Gathered::Single { index, .. } => order.push((*index, position as u32)),
            }
        }
        if !order.is_sorted() {
            order.sort_unstable();
        }
        let mut packer = Packer::new(&self.head);
        let mut out = Encoder::with_capacity(records.len() + gathered.len() * 16);
        for (index, position) in order {
            match &gathered[position as usize] {
                Gathered::Run(run) => packer.plain(&mut out, Run { first: index, count: 1, step: 1, ..*run })?,
                Gathered::Single { start, end, .. } => packer.single(&mut out, index, &records[*start..*end])?,
            }
        }
        packer.end(&mut out)?;
        gathered.clear();
        records.clear();
        (self.gathered, self.records) = (gathered, records);
        Ok(out.finish())
    }

    /// Nothing more comes. The merger wants the previous file, if there is one, and the segments that the caller keeps.
    ///
    /// Errors: [`Error::Malformed`] when a CSV text was not ended, or when there are too many categories.
    pub fn finish(mut self, segments: usize) -> Result<Merger, Error> {
        self.rows.as_ref().ok_or_else(refused_before)?.check_ended()?;
        let last = self.take_segment()?;
        let mut templates: Vec<Template> = self.head.templates.clone();
        let before_templates = self.before.as_ref().map(|(head, _)| head.templates.clone());
        templates.extend(before_templates.iter().flatten());
        templates.sort_unstable();
        templates.dedup();
        if templates.len() > MAX_TEMPLATES {
            return Err(Error::malformed(format!("{} categories in one table, more than {MAX_TEMPLATES}", templates.len())));
        }
        let numbers = |from: &[Template]| -> Vec<u16> {
            from.iter().map(|template| templates.binary_search(template).unwrap_or_default() as u16).collect()
        };
        let mut sources = Vec::new();
        if let Some(before) = &before_templates {
            sources.push(Source::new(SourceId::Previous, numbers(before)));
        }
        sources.extend((0..segments).map(|number| Source::new(SourceId::Segment(number), numbers(&self.head.templates))));
        let mut in_memory = Source::new(SourceId::Segment(segments), numbers(&self.head.templates));
        in_memory.bytes = last;
        in_memory.at_end = true;
        sources.push(in_memory);
        let count = match &self.before {
            Some((_, before)) => self.taken.count_with(before),
            None => self.taken.count_with(&self.taken),
        };
        let head = Head { count, templates, ..self.head };
        let mut out = Encoder::new();
        head.encode(&mut out);
        Ok(Merger { packer: Packer::new(&head), head, sources, out: out.finish() })
    }
}

fn refused_before() -> Error {
    Error::malformed("an earlier row of the CSV text was refused; mend it and begin the table again")
}

fn check_first_status(status: Status) -> Result<(), Error> {
    if matches!(status, Status::Active | Status::Allocated) {
        return Ok(());
    }
    Err(Error::malformed(format!("an item does not begin as {}; active or allocated", status.name())))
}

/// Lengthens a run by another that goes on with it; says whether it does.
fn extend(run: &mut Run, next: &Run) -> bool {
    if !run.is_like(next) || next.count != 1 {
        return false;
    }
    if run.count == 1 && next.first > run.first {
        run.step = next.first - run.first;
    } else if u64::from(next.first) != u64::from(run.last()) + u64::from(run.step) {
        return false;
    }
    run.count += 1;
    true
}

/// Writes ascending leaves as entries, runs as long as they go.
#[derive(Debug)]
struct Packer {
    head: Head,
    run: Option<Run>,
    /// The records of the last lone leaf's kind.
    plain: Option<(Run, PlainRecords)>,
    numbers: BTreeMap<Template, u16>,
}

impl Packer {
    fn new(head: &Head) -> Packer {
        let numbers = head.templates.iter().copied().zip(0..).collect();
        Packer { head: head.clone(), run: None, plain: None, numbers }
    }

    fn plain(&mut self, out: &mut Encoder, leaf: Run) -> Result<(), Error> {
        if let Some(run) = &mut self.run {
            if extend(run, &leaf) {
                return Ok(());
            }
        }
        self.end(out)?;
        self.run = Some(leaf);
        Ok(())
    }

    fn single(&mut self, out: &mut Encoder, index: u32, record: &[u8]) -> Result<(), Error> {
        if let Some(leaf) = self.as_plain(index, record)? {
            return self.plain(out, leaf);
        }
        self.end(out)?;
        Entry::Single(index, record).encode(out);
        Ok(())
    }

    /// A record that follows from a template may join a run.
    fn as_plain(&self, index: u32, record: &[u8]) -> Result<Option<Run>, Error> {
        // Kind, version, height, status and code are what an item of version 1 cannot be without.
        const FIVE_FIELDS: u8 = 0xa5;
        if record.first() != Some(&FIVE_FIELDS) {
            return Ok(None);
        }
        let (item, code) = self.head.item(index, record)?;
        let Some(category) = code.category() else { return Ok(None) };
        let template = Template { org: code.org(), use_: category.use_, model: category.model };
        let number = self.numbers.get(&template).copied();
        let begins = matches!(item.status, Status::Active | Status::Allocated);
        Ok(number.filter(|_| begins && item.version == 1).map(|number| Run {
            first: index,
            count: 1,
            step: 1,
            template: number,
            status: item.status,
            height: item.height,
        }))
    }

    /// Writes what is still open.
    fn end(&mut self, out: &mut Encoder) -> Result<(), Error> {
        let Some(run) = self.run.take() else { return Ok(()) };
        if run.count > 1 {
            Entry::Run(run).encode(out);
            return Ok(());
        }
        let serial = self.head.serial(run.first)?;
        if !self.plain.as_ref().is_some_and(|(like, _)| like.is_like(&run)) {
            let template = self.head.templates[usize::from(run.template)];
            self.plain = Some((run, PlainRecords::new(&self.head, &template, run.status, run.height)));
        }
        if let Some((_, records)) = &mut self.plain {
            Entry::Single(run.first, records.at(serial)).encode(out);
        }
        Ok(())
    }
}

/// Where a merger wants bytes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceId {
    /// The entries of the previous file, from [`Index::body`] on.
    Previous,
    /// A segment, by its number.
    Segment(usize),
}

/// What a merger says next.
#[derive(Debug)]
pub enum Step {
    /// It wants the next bytes of a source; none when that is at its end.
    Need(SourceId),
    /// The next bytes of the new file.
    Write(Vec<u8>),
    /// The new file is whole.
    Done,
}

#[derive(Debug)]
struct Source {
    id: SourceId,
    bytes: Vec<u8>,
    parsed: usize,
    at_end: bool,
    /// The final number of each of its templates.
    numbers: Vec<u16>,
    /// The leaf that comes next: of a run, the first of those that are left.
    current: Option<Leaves>,
    least: u32,
}

#[derive(Clone, Copy, Debug)]
enum Leaves {
    Run(Run),
    Single(u32, usize, usize),
}

impl Source {
    fn new(id: SourceId, numbers: Vec<u16>) -> Source {
        Source { id, bytes: Vec::new(), parsed: 0, at_end: false, numbers, current: None, least: 0 }
    }

    fn index(&self) -> Option<u32> {
        self.current.map(|current| match current {
            Leaves::Run(run) => run.first,
            Leaves::Single(index, ..) => index,
        })
    }

    /// Makes the next leaf the current one; says whether bytes are missing for that.
    fn fill(&mut self, size: u32) -> Result<bool, Error> {
        if self.current.is_some() {
            return Ok(false);
        }
        if !self.at_end && self.bytes.len() - self.parsed < MAX_ENTRY {
            return Ok(true);
        }
        if self.parsed < self.bytes.len() {
            let mut decoder = Decoder::new(&self.bytes[self.parsed..]);
            let entry = Entry::decode(&mut decoder, size, self.numbers.len(), self.least)?;
            self.parsed += decoder.position();
            self.least = entry.last() + 1;
            self.current = Some(match entry {
                Entry::Run(run) => Leaves::Run(Run { template: self.numbers[usize::from(run.template)], ..run }),
                Entry::Single(index, record) => Leaves::Single(index, self.parsed - record.len(), self.parsed),
            });
        }
        Ok(false)
    }

    fn step_over(&mut self) {
        self.current = match self.current {
            Some(Leaves::Run(run)) if run.count > 1 => Some(Leaves::Run(Run { first: run.first + run.step, count: run.count - 1, ..run })),
            _ => None,
        };
    }
}

/// Merges the previous file and the segments into the new file. It asks for bytes and gives bytes; see [`Step`].
#[derive(Debug)]
pub struct Merger {
    head: Head,
    packer: Packer,
    sources: Vec<Source>,
    out: Vec<u8>,
}

/// A merger gives bytes in pieces of about this many.
const WRITE: usize = 1 << 20;

impl Merger {
    /// Bytes that a [`Step::Need`] asked for; none when the source is at its end.
    pub fn feed(&mut self, id: SourceId, bytes: &[u8]) {
        if let Some(source) = self.sources.iter_mut().find(|source| source.id == id) {
            source.bytes.drain(..source.parsed);
            source.parsed = 0;
            source.bytes.extend_from_slice(bytes);
            source.at_end = bytes.is_empty();
        }
    }

    /// Goes on.
    ///
    /// Errors: [`Error::Malformed`] when a source is damaged, or a record is no later version of the one that it would replace.
    pub fn step(&mut self) -> Result<Step, Error> {
        let mut out = Encoder::with_capacity(WRITE + MAX_ENTRY);
        out.raw(&std::mem::take(&mut self.out));
        let size = self.head.size();
        loop {
            for source in &mut self.sources {
                if source.fill(size)? {
                    let id = source.id;
                    self.out = out.finish();
                    return Ok(Step::Need(id));
                }
            }
            let Some(index) = self.sources.iter().filter_map(Source::index).min() else {
                self.packer.end(&mut out)?;
                let bytes = out.finish();
                return Ok(if bytes.is_empty() { Step::Done } else { Step::Write(bytes) });
            };
            // Two sources share a serial only when one is the previous file, which comes first, and the other has a record for it.
            let here = |source: &Source| source.index() == Some(index);
            let number = self.sources.iter().rposition(here).unwrap_or_default();
            let older = self.sources.iter().position(here).unwrap_or_default();
            if older != number {
                check_later(index, self.record(older)?, self.record(number)?)?;
                self.sources[older].step_over();
            }
            let source = &mut self.sources[number];
            match source.current {
                Some(Leaves::Run(run)) => self.packer.plain(&mut out, Run { count: 1, step: 1, ..run })?,
                Some(Leaves::Single(_, start, end)) => self.packer.single(&mut out, index, &source.bytes[start..end])?,
                None => {}
            }
            source.step_over();
            if out.len() >= WRITE {
                return Ok(Step::Write(out.finish()));
            }
        }
    }
    /// The record of a source's next leaf.
    fn record(&self, number: usize) -> Result<Record, Error> {
        let source = &self.sources[number];
        match source.current {
            Some(Leaves::Single(_, start, end)) => Record::decode(&source.bytes[start..end]),
            Some(Leaves::Run(run)) => {
                let template = self.head.templates[usize::from(run.template)];
                let mut records = PlainRecords::new(&self.head, &template, run.status, run.height);
                Record::decode(records.at(self.head.serial(run.first)?))
            }
            None => Err(Error::malformed("a source of a table that is at its end")),
        }
    }
}

fn check_later(index: u32, older: Record, newer: Record) -> Result<(), Error> {
    if newer.version > older.version || newer == older {
        return Ok(());
    }
    Err(Error::malformed(format!(
        "the record given for leaf {index} has version {} and the table holds version {}; give the records that the ledger holds now",
        newer.version, older.version
    )))
}
