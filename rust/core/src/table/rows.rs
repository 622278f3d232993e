//! CSV rows (RFC 4180, UTF-8, first row the header) to items with salted commitments.
//!
//! ```text
//! serial or code      which item; a code also says use and model
//! use, model          with `serial`; without both columns every row is of the category that was named for the text
//! status              active (also when empty) or allocated
//! any other column    an attribute: its value is committed to, and an empty one is left out
//! ```
//! A text comes in pieces that may end anywhere; an empty piece ends it. Rows are read in order and made into records on all cores.
//! The first row that is wrong refuses the piece, with its line.
use super::file::Head;
use super::index::map_all;
use crate::code::{Category, Code, Model, Org, Serial, Series, Use};
use crate::commitment::{commitment, MAX_VALUE};
use crate::error::Error;
use crate::hash::{hex, Suite, Tag, TagHasher};
use crate::map_key::Kind;
use crate::profile::attribute_fault;
use crate::record::{Record, Status, MAX_RECORD};
use crate::wire::text_order;
use csv_core::ReadRecordResult;

/// What the values of attributes are, in their commitments.
const SCHEMA: &str = "text";
const MAX_COLUMNS: usize = 256;
const MAX_ROW: usize = 256 * 1_024;
/// Rows that are made at once, and rows of one task.
const BATCH: usize = 16_384;
const TASK: usize = 1_024;

/// What the rows have in common.
#[derive(Clone, Debug)]
pub struct RowContext {
    pub head: Head,
    pub org: Option<Org>,
    pub height: u64,
    /// Of rows in whose text no column says it.
    pub category: Option<(Use, Model)>,
}

/// A row as an item.
#[derive(Clone, Copy, Debug)]
pub struct MadeRow {
    /// Of the text, from 1.
    pub line: u64,
    /// Its leaf.
    pub index: u32,
    pub use_: Use,
    pub model: Model,
    pub status: Status,
    /// Where its record stands among those made with it; none when it follows from the rest.
    pub record: Option<(usize, usize)>,
}

/// What a column says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Column {
    Serial,
    Code,
    Use,
    Model,
    Status,
    /// Its position among the attributes.
    Attribute(usize),
}

#[derive(Clone, Debug)]
struct Header {
    columns: Vec<Column>,
    /// In the order of a record's commitments.
    attributes: Vec<String>,
}

/// Reads a CSV text from pieces.
pub struct Rows {
    context: RowContext,
    reader: csv_core::Reader,
    header: Option<Header>,
    /// The row that is being read.
    row: Vec<u8>,
    row_length: usize,
    ends: Vec<usize>,
    row_fields: usize,
    begun: bool,
}

impl std::fmt::Debug for Rows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rows").field("header", &self.header).field("line", &self.reader.line()).finish_non_exhaustive()
    }
}

/// Rows that were read and not made yet: fields one after the other.
#[derive(Default)]
struct ReadRows {
    text: Vec<u8>,
    ends: Vec<usize>,
    lines: Vec<u64>,
}

impl Rows {
    pub fn new(context: RowContext) -> Rows {
        Rows {
            context,
            reader: csv_core::Reader::new(),
            header: None,
            row: vec![0; 4_096],
            row_length: 0,
            ends: vec![0; MAX_COLUMNS + 1],
            row_fields: 0,
            begun: false,
        }
    }

    /// Names the category of the rows in whose text no column says it.
    pub fn set_category(&mut self, use_: Use, model: Model) {
        self.context.category = Some((use_, model));
    }

    /// Takes a piece of the text; `take` gets made rows and their records. Gives the rows that open the commitments.
    pub fn feed(
        &mut self,
        text: &[u8],
        salts: &[u8; 32],
        mut take: impl FnMut(&[MadeRow], &[u8]) -> Result<(), Error>,
    ) -> Result<Vec<u8>, Error> {
        let mut shown = Vec::new();
        let mut rest = text;
        let mut read = ReadRows::default();
        self.begun |= !text.is_empty();
        loop {
            // To the reader an empty piece is the end of the text, so it gets one only when we did.
            if rest.is_empty() && !text.is_empty() {
                break;
            }
            let (result, taken, written, ended) =
                self.reader.read_record(rest, &mut self.row[self.row_length..], &mut self.ends[self.row_fields..]);
            // The line on which the row ends: the reader has counted a line break that it took.
            let line = self.reader.line() - u64::from(rest[..taken].last() == Some(&b'\n') && result == ReadRecordResult::Record);
            rest = &rest[taken..];
            self.row_length += written;
            self.row_fields += ended;
            match result {
                ReadRecordResult::InputEmpty => break,
                ReadRecordResult::End => {
                    self.make(read, salts, &mut shown, &mut take)?;
                    self.reader.reset();
                    (self.header, self.begun) = (None, false);
                    return Ok(shown);
                }
                ReadRecordResult::OutputFull if self.row.len() < MAX_ROW => self.row.resize(self.row.len() * 2, 0),
                ReadRecordResult::OutputFull => {
                    return Err(at_line(line, Error::malformed(format!("a row of more than {MAX_ROW} bytes; is a quote not closed?"))))
                }
                ReadRecordResult::OutputEndsFull => {
                    return Err(at_line(line, Error::malformed(format!("more than {MAX_COLUMNS} columns"))))
                }
                ReadRecordResult::Record => {
                    self.end_row(line, &mut read, &mut shown)?;
                    if read.lines.len() == BATCH {
                        self.make(std::mem::take(&mut read), salts, &mut shown, &mut take)?;
                    }
                }
            }
        }
        self.make(read, salts, &mut shown, &mut take)?;
        Ok(shown)
    }

    /// Whether a text was begun and not ended: its last row might still grow, and what opens it was not given yet.
    pub fn check_ended(&self) -> Result<(), Error> {
        if self.begun {
            return Err(Error::malformed("the CSV text was not ended; add an empty piece, and keep the rows that it gives"));
        }
        Ok(())
    }

    fn end_row(&mut self, line: u64, read: &mut ReadRows, shown: &mut Vec<u8>) -> Result<(), Error> {
        let (length, fields) = (self.row_length, self.row_fields);
        (self.row_length, self.row_fields) = (0, 0);
        let Some(header) = &self.header else {
            let header = Header::read(&self.row[..length], &self.ends[..fields], self.context.category.is_some())?;
            if !header.attributes.is_empty() {
                shown.extend_from_slice(b"code,attribute,schema,salt,value\n");
            }
            self.header = Some(header);
            return Ok(());
        };
        if fields != header.columns.len() {
            return Err(at_line(line, Error::malformed(format!("{fields} fields where the header has {}", header.columns.len()))));
        }
        let start = read.text.len();
        read.text.extend_from_slice(&self.row[..length]);
        read.ends.extend(self.ends[..fields].iter().map(|end| start + end));
        read.lines.push(line);
        Ok(())
    }

    fn make(
        &self,
        read: ReadRows,
        salts: &[u8; 32],
        shown: &mut Vec<u8>,
        take: &mut impl FnMut(&[MadeRow], &[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let Some(header) = &self.header else { return Ok(()) };
        let tasks: Vec<usize> = (0..read.lines.len()).step_by(TASK).collect();
        let made = map_all(tasks, |from| {
            let mut maker = Maker::new(&self.context, header, salts);
            for number in from..(from + TASK).min(read.lines.len()) {
                maker.make(&read, number).map_err(|error| at_line(read.lines[number], error))?;
            }
            Ok((maker.rows, maker.records, maker.shown))
        });
        for task in made {
            let (rows, records, text): (Vec<MadeRow>, Vec<u8>, Vec<u8>) = task?;
            take(&rows, &records)?;
            shown.extend_from_slice(&text);
        }
        Ok(())
    }
}

/// Says in which line of a CSV text something is wrong.
pub fn at_line(line: u64, error: Error) -> Error {
    match error {
        Error::Rule { reason, message } => Error::Rule { reason, message: format!("line {line}: {message}") },
        other => Error::malformed(format!("line {line}: {other}")),
    }
}

impl Header {
    fn read(text: &[u8], ends: &[usize], has_category: bool) -> Result<Header, Error> {
        let mut names = Vec::with_capacity(ends.len());
        let mut start = 0;
        for end in ends {
            let name = std::str::from_utf8(&text[start..*end]).map_err(|_| at_line(1, Error::malformed("a header that is not UTF-8")))?;
            if names.contains(&name) {
                return Err(at_line(1, Error::malformed(format!("the column {name:?} stands twice in the header; rename one of them"))));
            }
            names.push(name);
            start = *end;
        }
        let special = |name: &str| match name {
            "serial" => Some(Column::Serial),
            "code" => Some(Column::Code),
            "use" => Some(Column::Use),
            "model" => Some(Column::Model),
            "status" => Some(Column::Status),
            _ => None,
        };
        let mut attributes: Vec<String> = names.iter().filter(|name| special(name).is_none()).map(|name| (*name).to_owned()).collect();
        attributes.sort_by(|left, right| text_order(left, right));
        for name in &attributes {
            if let Some(fault) = attribute_fault(name).or((name.len() > 64).then_some("it has at most 64 bytes")) {
                return Err(at_line(1, Error::malformed(format!("the column {name:?} names no attribute: {fault}"))));
            }
        }
        let columns: Vec<Column> = names
            .iter()
            .map(|name| {
                special(name).unwrap_or_else(|| Column::Attribute(attributes.iter().position(|own| own == name).unwrap_or_default()))
            })
            .collect();
        let has = |column: Column| columns.contains(&column);
        let by_code = has(Column::Code) && !has(Column::Serial) && !has(Column::Use) && !has(Column::Model);
        let says_category = has(Column::Use) && has(Column::Model);
        let needs_category = !has(Column::Use) && !has(Column::Model) && has_category;
        let by_serial = has(Column::Serial) && (says_category || needs_category) && !has(Column::Code);
        if !by_code && !by_serial {
            return Err(at_line(
                1,
                Error::malformed(
                    "the header needs the column code, or serial, use and model, or serial alone when use and model are named",
                ),
            ));
        }
        Ok(Header { columns, attributes })
    }
}

/// Makes rows into records.
struct Maker<'a> {
    context: &'a RowContext,
    header: &'a Header,
    salts: &'a [u8; 32],
    hasher: TagHasher,
    /// The codes of the last row's category.
    series: Option<(Category, Series)>,
    rows: Vec<MadeRow>,
    records: Vec<u8>,
    shown: Vec<u8>,
}

impl<'a> Maker<'a> {
    fn new(context: &'a RowContext, header: &'a Header, salts: &'a [u8; 32]) -> Maker<'a> {
        let hasher = TagHasher::new(Tag::AttributeSalt, Suite::Ed25519Sha256);
        Maker { context, header, salts, hasher, series: None, rows: Vec::with_capacity(TASK), records: Vec::new(), shown: Vec::new() }
    }

    fn make(&mut self, read: &ReadRows, number: usize) -> Result<(), Error> {
        let count = self.header.columns.len();
        let ends = &read.ends[number * count..(number + 1) * count];
        let mut start = if number == 0 { 0 } else { read.ends[number * count - 1] };
        let mut values: Vec<&str> = vec![""; self.header.attributes.len()];
        let (mut code, mut serial, mut use_, mut model, mut status) = ("", "", "", "", "");
        for (column, end) in self.header.columns.iter().zip(ends) {
            let text = std::str::from_utf8(&read.text[start..*end]).map_err(|_| Error::malformed("text that is not UTF-8"))?;
            start = *end;
            match column {
                Column::Serial => serial = text,
                Column::Code => code = text,
                Column::Use => use_ = text,
                Column::Model => model = text,
                Column::Status => status = text,
                Column::Attribute(attribute) => values[*attribute] = text,
            }
        }
        let status = match status {
            "" | "active" => Status::Active,
            "allocated" => Status::Allocated,
            other => return Err(Error::malformed(format!("the status {other:?}; active or allocated"))),
        };
        let class = self.context.head.range.class;
        let (category, serial) = if code.is_empty() {
            let (use_, model) = match self.context.category {
                Some(category) if !self.header.columns.contains(&Column::Use) => category,
                _ => (Use::parse(use_)?, Model::parse(model)?),
            };
            (Category { use_, class, model }, read_serial(serial)?)
        } else {
            self.read_code(code)?
        };
        let index = self.context.head.index(serial)?;
        let mut row = MadeRow { line: read.lines[number], index, use_: category.use_, model: category.model, status, record: None };
        if values.iter().any(|value| !value.is_empty()) {
            let start = self.records.len();
            self.commit(category, serial, status, &values)?;
            row.record = Some((start, self.records.len()));
        }
        self.rows.push(row);
        Ok(())
    }

    fn read_code(&self, text: &str) -> Result<(Category, Serial), Error> {
        let range = &self.context.head.range;
        match Code::parse(text, None)? {
            Code::Item { city, org, category, serial }
                if city == range.city && category.class == range.class && org == self.context.org =>
            {
                Ok((category, serial))
            }
            other => Err(Error::malformed(format!("{other} is not an item of this range's city, class and holder"))),
        }
    }

    fn commit(&mut self, category: Category, serial: Serial, status: Status, values: &[&str]) -> Result<(), Error> {
        let RowContext { head, org, height, .. } = self.context;
        let series = match &self.series {
            Some((known, series)) if *known == category => series,
            _ => &self.series.insert((category, Series::new(head.range.city, *org, category))).1,
        };
        let mut code = String::with_capacity(64);
        code.push_str(series.stem());
        code.extend(series.end(serial).map(char::from));
        let mut record = Record::new(Kind::Item, *height);
        record.status = status;
        for (attribute, value) in self.header.attributes.iter().zip(values) {
            if value.is_empty() {
                continue;
            }
            if value.len() > MAX_VALUE {
                return Err(Error::malformed(format!("a value of {} bytes for {attribute:?}, more than {MAX_VALUE}", value.len())));
            }
            let hash = self.hasher.hash(&[self.salts, &serial.get().to_be_bytes(), attribute.as_bytes()]);
            let salt: [u8; 16] = std::array::from_fn(|at| hash[at]);
            record.commitments.push((attribute.clone(), commitment(&code, attribute, SCHEMA, &salt, value)?));
            let salt = hex(&salt);
            for (field, end) in [(code.as_str(), b','), (attribute, b','), (SCHEMA, b','), (&salt, b','), (value, b'\n')] {
                push_field(&mut self.shown, field);
                self.shown.push(end);
            }
        }
        record.code = Some(code);
        let encoded = record.encode();
        if encoded.len() > MAX_RECORD {
            return Err(Error::malformed(format!(
                "a record of {} bytes, more than {MAX_RECORD}; leave some attributes out",
                encoded.len()
            )));
        }
        self.records.extend_from_slice(&encoded);
        Ok(())
    }
}

/// A number of one to nine digits.
fn read_serial(text: &str) -> Result<Serial, Error> {
    let digits = (1..=9).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse::<u32>() {
        Ok(number) if digits => Serial::new(number),
        _ => Err(Error::malformed(format!("the serial {text:?}; it is a number of one to nine digits"))),
    }
}

/// RFC 4180: quoted when it holds what would end it.
fn push_field(out: &mut Vec<u8>, field: &str) {
    if !field.bytes().any(|byte| matches!(byte, b',' | b'"' | b'\n' | b'\r')) {
        out.extend_from_slice(field.as_bytes());
        return;
    }
    out.push(b'"');
    for byte in field.bytes() {
        if byte == b'"' {
            out.push(b'"');
        }
        out.push(byte);
    }
    out.push(b'"');
}
