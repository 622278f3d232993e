//! Listing codes by prefix: which cities, organisations, categories and ranges there are, and the items in them.
//!
//! The state map is keyed by hashes, so it cannot be read in the order of codes. [`Directory`] keeps the keys of what is above
//! items, which are few; items are found by asking for every serial of the ranges that somebody holds, which is where P25 lets them
//! be. Rules:
//! - The order is that of encoded map keys: cities, organisations, categories, ranges, items by city, class and serial.
//! - A page is bounded by entries and by look-ups, so one may be short, or empty, and still not be the last ([`Listing::next`]).
//! - A key is never removed, and a state that is older than the directory passes over keys that it does not have.
//! - Items that only a sealed table holds are not listed: [`Listing::sealed`] counts the ranges for which that is so.
//!
//! A listing proves nothing by being complete: a sparse map cannot. Each of its records can be proven.
use crate::answer::StateReader;
use crate::code::{Alias, Category, City, Class, Code, Model, Org, Serial, Use, MAX_NATIVE_BYTES};
use crate::error::Error;
use crate::hash::hex;
use crate::history::key_of;
use crate::json::from_hex;
use crate::map_key::{path_of, Kind, MapKey};
use crate::record::{Children, Record, Table};
use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

/// The most entries of a page.
pub const MAX_ENTRIES: usize = 1_000;
/// Serials that are looked up for one page: about a tenth of a second.
pub const MAX_LOOKUPS: usize = 200_000;
/// Ranges that are taken from the directory at a time, so that a commit never waits for a page.
const RANGES_AT_ONCE: usize = 64;

/// The beginning of codes, at a boundary: `MA.156.130100` holds the city and what is below it, and not another city's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prefix {
    text: String,
    city: Option<City>,
    class: Option<Class>,
    /// The holder part, when it says more than the city.
    holder: Option<String>,
}

impl Prefix {
    /// Reads `MA.156` and any further parts of a code; a trailing `.` or `/` is taken.
    ///
    /// Errors: [`Error::Code`].
    pub fn parse(text: &str) -> Result<Prefix, Error> {
        let wrong = |why: &str| Error::Code(format!("{text:?} is no prefix of codes: {why}; write MA.156, or go on as a code does"));
        let text = text.to_ascii_uppercase();
        if text.len() > MAX_NATIVE_BYTES + 1 || !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'/')) {
            return Err(wrong("too long, or with a character that stands in no code"));
        }
        let rest = match text.strip_prefix(AGENCY) {
            Some("" | ".") => return Ok(Prefix { text: AGENCY.to_owned(), city: None, class: None, holder: None }),
            Some(rest) => rest.strip_prefix('.').ok_or_else(|| wrong("a part of it is cut off"))?,
            None => return Err(wrong("it does not begin with MA.156")),
        };
        let mut parts = rest.trim_end_matches(['.', '/']).split('/');
        let holder = parts.next().unwrap_or_default();
        let (city, org) = holder.split_once('.').map_or((holder, None), |(city, org)| (city, Some(org)));
        let city = City::parse(city).map_err(|_| wrong("its city has not six digits"))?;
        if let Some(org) = org {
            Org::parse(org).map_err(|_| wrong("its organisation has not 4 to 8 of A-Z 0-9"))?;
        }
        let class = match parts.next().and_then(|category| category.split('.').nth(1)) {
            Some(class) => Some(Class::parse(class).map_err(|_| wrong("its class has not six digits"))?),
            None => None,
        };
        let holder = org.map(|_| format!("{AGENCY}.{holder}"));
        Ok(Prefix { city: Some(city), class, holder, text })
    }

    /// As it was written, in upper case.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether a canonical code is under it.
    pub fn contains(&self, code: &str) -> bool {
        within(&self.text, code)
    }

    /// Whether an item of this city and class may be under it.
    pub fn may_hold(&self, city: City, class: Class) -> bool {
        self.city.is_none_or(|wanted| wanted == city) && self.class.is_none_or(|wanted| wanted == class)
    }

    /// Whether a range is of interest to whoever asks for this prefix: of its city and class, and of its organisation if it has one.
    pub fn holds_range(&self, city: City, class: Class, holder: Option<&str>) -> bool {
        let is_held = |wanted: &str| holder.is_some_and(|holder| within(wanted, holder));
        self.may_hold(city, class) && self.holder.as_deref().is_none_or(is_held)
    }
}

fn within(prefix: &str, code: &str) -> bool {
    match code.strip_prefix(prefix) {
        Some(rest) => rest.is_empty() || prefix.ends_with(['.', '/']) || rest.starts_with(['.', '/']),
        None => false,
    }
}

/// A range by its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RangePlace {
    /// The city.
    pub city: City,
    /// The class.
    pub class: Class,
    /// The first serial.
    pub base: u32,
    /// 1,000 or 1,000,000.
    pub size: u32,
}

/// What a listed key names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named {
    /// A code.
    Code(Code),
    /// A range.
    Range(RangePlace),
}

/// What a key of a listing names; none for a key of another kind, or one that does not fit its record.
pub fn name_of(key: &[u8], record: &Record) -> Option<Named> {
    if key.first().copied() != Some(record.kind as u8) {
        return None;
    }
    let code = match record.kind {
        Kind::Item => Code::parse(record.code.as_deref()?, None).ok()?,
        Kind::Million | Kind::Thousand => return range_of(key).map(Named::Range),
        _ => code_of(key)?,
    };
    (key_of(&code) == key).then_some(Named::Code(code))
}

/// The code in the key of a city, organisation or category.
fn code_of(key: &[u8]) -> Option<Code> {
    fn fixed<'k>(text: &mut &'k str, count: usize) -> Option<&'k str> {
        let (taken, rest) = text.split_at_checked(count)?;
        *text = rest;
        Some(taken)
    }
    fn prefixed<'k>(text: &mut &'k str) -> Option<&'k str> {
        let length = usize::from(*text.as_bytes().first()?);
        fixed(text, 1)?;
        fixed(text, length)
    }
    let (kind, rest) = key.split_first()?;
    let mut text = std::str::from_utf8(rest).ok()?;
    let city = City::parse(fixed(&mut text, 6)?).ok()?;
    let code = match Kind::parse(u64::from(*kind)).ok()? {
        Kind::City => Code::City { city },
        Kind::Organisation => Code::Org { city, org: Org::parse(prefixed(&mut text)?).ok()? },
        Kind::Category => {
            let org = Some(prefixed(&mut text)?).filter(|org| !org.is_empty()).map(Org::parse).transpose().ok()?;
            let use_ = Use::parse(fixed(&mut text, 2)?).ok()?;
            let class = Class::parse(fixed(&mut text, 6)?).ok()?;
            Code::Category { city, org, category: Category { use_, class, model: Model::parse(prefixed(&mut text)?).ok()? } }
        }
        _ => return None,
    };
    text.is_empty().then_some(code)
}

fn range_of(key: &[u8]) -> Option<RangePlace> {
    let text = std::str::from_utf8(key.get(1..)?).ok()?;
    let (size, digits) = match Kind::parse(u64::from(*key.first()?)).ok()? {
        Kind::Million => (1_000_000, 3),
        Kind::Thousand => (1_000, 6),
        _ => return None,
    };
    let number = text.get(12..).filter(|number| number.len() == digits)?.parse::<u32>().ok()?;
    Some(RangePlace { city: City::parse(text.get(..6)?).ok()?, class: Class::parse(text.get(6..12)?).ok()?, base: number * size, size })
}

/// The key behind a text that says where a page ended: a code, 21 digits of an item's place, or a key in hexadecimal.
///
/// Errors: [`Error::Malformed`] or [`Error::Code`].
pub fn parse_cursor(text: &str) -> Result<Vec<u8>, Error> {
    if text.get(..3).is_some_and(|start| start.eq_ignore_ascii_case("MA.")) {
        return Ok(key_of(&Code::parse(text, None)?));
    }
    if let Ok(place) = Alias::parse(text) {
        return Ok(MapKey::Item(place.city, place.class, place.serial).encode());
    }
    from_hex(text).map_err(|_| Error::malformed("where the page before ended is a code, 21 digits, or what that page gave as its next"))
}

/// The text that [`parse_cursor`] reads back.
pub fn cursor(key: &[u8]) -> String {
    match key.split_first() {
        Some((kind, place)) if *kind == Kind::Item as u8 => String::from_utf8_lossy(place).into_owned(),
        _ => code_of(key).map_or_else(|| hex(key), |code| code.text()),
    }
}

/// One entry of a page.
#[derive(Clone, Debug)]
pub struct Listed {
    /// The map key.
    pub key: Vec<u8>,
    /// The encoded record.
    pub record: Arc<[u8]>,
    /// The canonical code; none of a range.
    pub code: Option<String>,
}

/// A page.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// Ascending by key.
    pub entries: Vec<Listed>,
    /// The key behind which the next page begins; none when this one is the last.
    pub next: Option<Vec<u8>>,
    /// Sealed ranges that this page passed: their items are in tables.
    pub sealed: usize,
}

/// What to list.
#[derive(Clone, Copy, Debug)]
pub struct Request<'r> {
    /// Which codes.
    pub prefix: &'r Prefix,
    /// Only what comes behind this key.
    pub after: Option<&'r [u8]>,
    /// The most entries, up to [`MAX_ENTRIES`].
    pub limit: usize,
    /// Ranges, too.
    pub ranges: bool,
}

/// The keys of everything above items.
#[derive(Debug, Default)]
pub struct Directory {
    keys: RwLock<BTreeSet<Box<[u8]>>>,
}

const KEPT: [Kind; 5] = [Kind::City, Kind::Organisation, Kind::Category, Kind::Million, Kind::Thousand];

/// Whether a [`Directory`] keeps the keys of a kind, by its number.
pub fn is_kept(kind: u8) -> bool {
    KEPT.iter().any(|kept| *kept as u8 == kind)
}

impl Directory {
    /// Takes up keys that a block wrote.
    pub fn note<'k>(&self, keys: impl IntoIterator<Item = &'k [u8]>) {
        let kept = |key: &&[u8]| key.first().is_some_and(|kind| is_kept(*kind));
        let mut new = keys.into_iter().filter(kept).peekable();
        if new.peek().is_some() {
            let mut known = self.keys.write().unwrap_or_else(PoisonError::into_inner);
            known.extend(new.map(Box::from));
        }
    }

    /// Every key that is kept, ascending.
    pub fn keys(&self) -> Vec<Box<[u8]>> {
        self.read().iter().cloned().collect()
    }

    fn read(&self) -> RwLockReadGuard<'_, BTreeSet<Box<[u8]>>> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keys that begin with `start` and come behind `after`, at most `limit`.
    fn some(&self, start: &[u8], after: Option<&[u8]>, limit: usize) -> Vec<Box<[u8]>> {
        let from = match after {
            Some(after) if after >= start => Bound::Excluded(after),
            _ => Bound::Included(start),
        };
        self.read().range::<[u8], _>((from, Bound::Unbounded)).take_while(|key| key.starts_with(start)).take(limit).cloned().collect()
    }

    /// A page of what a state holds under a prefix.
    ///
    /// Errors: [`Error::Malformed`] when a record of the state is damaged.
    pub fn list(&self, state: &impl StateReader, request: &Request<'_>) -> Result<Listing, Error> {
        let mut page = Page { state, request, limit: request.limit.clamp(1, MAX_ENTRIES), lookups: 0, listing: Listing::default() };
        for kind in KEPT {
            if matches!(kind, Kind::Million | Kind::Thousand) && !request.ranges {
                continue;
            }
            let start = page.start(kind);
            // A place behind this kind leaves nothing of it.
            let mut after = request.after.map(<[u8]>::to_vec);
            if after.as_ref().is_some_and(|after| after[..] > start[..] && !after.starts_with(&start)) {
                continue;
            }
            loop {
                let keys = self.some(&start, after.as_deref(), MAX_ENTRIES);
                let Some(last) = keys.last() else { break };
                after = Some(last.to_vec());
                for key in keys {
                    if !page.take(&key)? {
                        return Ok(page.listing);
                    }
                }
            }
        }
        self.items(&mut page)?;
        Ok(page.listing)
    }

    fn items(&self, page: &mut Page<'_, impl StateReader>) -> Result<(), Error> {
        let start = page.start(Kind::Item);
        let from = match page.request.after {
            Some(after) if after.first() == start.first() => {
                if after > &start[..] && !after.starts_with(&start) {
                    return Ok(());
                }
                item_place(after).map(|(city, class, serial)| (city, class, serial.get()))
            }
            _ => None,
        };
        let mut behind = from.map(|(city, class, serial)| RangePlace { city, class, base: serial - serial % 1_000_000, size: 0 });
        loop {
            let ranges = self.ranges(page.request.prefix, behind);
            let Some(last) = ranges.last() else { return Ok(()) };
            behind = Some(*last);
            for range in ranges {
                if !page.range(&range, from)? {
                    return Ok(());
                }
            }
        }
    }

    /// Ranges by city, class, base and size, behind a place.
    fn ranges(&self, prefix: &Prefix, behind: Option<RangePlace>) -> Vec<RangePlace> {
        let known = self.read();
        let of_kind = |kind: Kind| {
            let mut from = vec![kind as u8];
            let mut end = vec![kind as u8];
            if let Some(city) = prefix.city {
                from.extend_from_slice(city.as_str().as_bytes());
                end.extend_from_slice(city.as_str().as_bytes());
            }
            if let Some(place) = behind {
                // The range itself is passed over below: a million and its first thousand have one base.
                let key = match (kind, Serial::new(place.base)) {
                    (Kind::Million, Ok(base)) => MapKey::Million(place.city, place.class, base).encode(),
                    (_, Ok(base)) => MapKey::Thousand(place.city, place.class, base).encode(),
                    (_, Err(_)) => Vec::new(),
                };
                from = from.max(key);
            }
            known
                .range::<[u8], _>((Bound::Included(&from[..]), Bound::Unbounded))
                .take_while(move |key| key.starts_with(&end))
                .filter_map(|key| range_of(key))
                .filter(move |range| prefix.may_hold(range.city, range.class) && behind.is_none_or(|behind| *range > behind))
                .take(RANGES_AT_ONCE)
                .collect::<Vec<_>>()
        };
        let mut ranges = of_kind(Kind::Million);
        ranges.extend(of_kind(Kind::Thousand));
        ranges.sort_unstable();
        ranges.truncate(RANGES_AT_ONCE);
        ranges
    }
}

/// City, class and serial in the key of an item.
pub fn item_place(key: &[u8]) -> Option<(City, Class, Serial)> {
    let (kind, place) = key.split_first()?;
    let place = Alias::parse(std::str::from_utf8(place).ok().filter(|_| *kind == Kind::Item as u8)?).ok()?;
    Some((place.city, place.class, place.serial))
}

struct Page<'p, S> {
    state: &'p S,
    request: &'p Request<'p>,
    limit: usize,
    lookups: usize,
    listing: Listing,
}

impl<S: StateReader> Page<'_, S> {
    /// The bytes with which keys of a kind begin, as far as the prefix names them.
    fn start(&self, kind: Kind) -> Vec<u8> {
        let mut start = vec![kind as u8];
        if let Some(city) = self.request.prefix.city {
            start.extend_from_slice(city.as_str().as_bytes());
        }
        start
    }

    /// Adds the entry of a key if it is under the prefix; false when the page is full.
    fn take(&mut self, key: &[u8]) -> Result<bool, Error> {
        let Some(bytes) = self.state.get(&path_of(key)) else { return Ok(true) };
        let record = Record::decode(&bytes)?;
        let prefix = self.request.prefix;
        let code = match name_of(key, &record) {
            Some(Named::Code(code)) => {
                let text = code.text();
                if !prefix.contains(&text) {
                    return Ok(true);
                }
                Some(text)
            }
            Some(Named::Range(range)) if prefix.holds_range(range.city, range.class, record.holder.as_deref()) => None,
            Some(Named::Range(_)) => return Ok(true),
            None => return Err(Error::malformed("a record stands under a key that is not its own; the store is damaged")),
        };
        self.listing.entries.push(Listed { key: key.to_vec(), record: bytes, code });
        Ok(self.has_room(key))
    }

    fn has_room(&mut self, key: &[u8]) -> bool {
        let full = self.listing.entries.len() >= self.limit || self.lookups >= MAX_LOOKUPS;
        if full {
            self.listing.next = Some(key.to_vec());
        }
        !full
    }

    /// Adds the items of a range behind a place; false when the page is full.
    fn range(&mut self, range: &RangePlace, from: Option<(City, Class, u32)>) -> Result<bool, Error> {
        let RangePlace { city, class, base, size } = *range;
        let serial = Serial::new(base)?;
        let key = if size == 1_000 { MapKey::Thousand(city, class, serial) } else { MapKey::Million(city, class, serial) };
        let Some(bytes) = self.state.get(&key.path()) else { return Ok(true) };
        let record = Record::decode(&bytes)?;
        let table: Option<Table> = match record.children {
            Children::Items => None,
            Children::Table => record.table,
            Children::None | Children::Map => return Ok(true),
        };
        let first = match from {
            Some((of, in_class, serial)) if (of, in_class) == (city, class) && serial >= base => serial - base + 1,
            Some((of, in_class, _)) if (of, in_class) > (city, class) => return Ok(true),
            _ => 0,
        };
        if first >= size {
            return Ok(true);
        }
        if table.is_none_or(|table| table.overrides > 0) {
            for serial in base + first..base + size {
                let serial = Serial::new(serial)?;
                let key = MapKey::Item(city, class, serial).encode();
                self.lookups += 1;
                if let Some(bytes) = self.state.get(&path_of(&key)) {
                    let item = Record::decode(&bytes)?;
                    // An item record that is not above the table may be older than its leaf.
                    if table.is_none_or(|table| item.height > table.height) && !self.take(&key)? {
                        return Ok(false);
                    }
                }
                if self.lookups >= MAX_LOOKUPS {
                    return Ok(self.has_room(&key));
                }
            }
        }
        self.listing.sealed += usize::from(table.is_some());
        Ok(true)
    }
}

const AGENCY: &str = "MA.156";
