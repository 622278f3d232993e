//! Gathering from a state the records that [`judge`](super::chain::judge) wants. What they mean is said there, and only there.
use super::build::{StateReader, TableLookup};
use super::chain::{named_place, newer, Asked, Place, Range, Sealed};
use crate::code::{City, Code};
use crate::error::Error;
use crate::map_key::{Kind, MapKey};
use crate::record::Record;
use crate::table::TableProof;
use std::sync::Arc;

/// What a state holds of a subject: the encoded records in the order of P39, and the table proof if it was found.
pub(super) struct Collected {
    pub records: Vec<(Kind, Option<Arc<[u8]>>)>,
    pub table: Option<TableProof>,
}

/// Gathers what a state holds of a subject.
pub(super) fn collect(asked: &Asked, reader: &impl StateReader, tables: TableLookup<'_>) -> Result<Collected, Error> {
    let mut collector = Collector { reader, records: Vec::new() };
    let mut table = None;
    collector.add(&MapKey::Network);
    match asked {
        Asked::Foreign(text) => {
            collector.add(&MapKey::Foreign(text));
        }
        Asked::Mistyped { city, .. } | Asked::Code(Code::City { city }) => {
            collector.add(&MapKey::City(*city));
        }
        Asked::Code(Code::Org { city, org }) => {
            let _ = collector.add(&MapKey::City(*city)) && collector.add(&MapKey::Organisation(*city, *org));
        }
        Asked::Code(Code::Category { city, org, category }) => {
            let _ = collector.add(&MapKey::City(*city))
                && org.is_none_or(|org| collector.add(&MapKey::Organisation(*city, org)))
                && collector.add(&MapKey::Category(*city, *org, *category));
        }
        Asked::Named(named) => {
            if collector.add(&MapKey::City(named.city())) {
                table = collector.alias(named.city(), named.namespace(), named.alias(), tables)?;
            }
        }
        Asked::Code(Code::Item { .. } | Code::Foreign(_)) | Asked::Place(_) => {
            if let Some(place) = asked.place() {
                if collector.add(&MapKey::City(place.city)) {
                    table = collector.item(&place, tables)?;
                } else if matches!(asked, Asked::Place(_)) {
                    table = collector.district(place.city, &asked.text(), tables)?;
                }
            }
        }
    }
    Ok(Collected { records: collector.records, table })
}

struct Collector<'r, R> {
    reader: &'r R,
    records: Vec<(Kind, Option<Arc<[u8]>>)>,
}

impl<R: StateReader> Collector<'_, R> {
    /// Adds what stands under a key; says whether that is a record.
    fn add(&mut self, key: &MapKey<'_>) -> bool {
        let record = self.reader.get(&key.path());
        let present = record.is_some();
        self.records.push((key.kind(), record));
        present
    }

    fn read(&self, key: &MapKey<'_>) -> Result<Option<Record>, Error> {
        self.reader.get(&key.path()).map(|bytes| Record::decode(&bytes)).transpose()
    }

    /// What an old number leads to, whose first digits are no member city.
    fn district(&mut self, district: City, number: &str, tables: TableLookup<'_>) -> Result<Option<TableProof>, Error> {
        let key = MapKey::District(district);
        if !self.add(&key) {
            return Ok(None);
        }
        let Some(city) = self.read(&key)?.and_then(|record| record.administered_by) else { return Ok(None) };
        self.add(&MapKey::City(city));
        self.alias(city, city.as_str(), number, tables)
    }

    fn alias(&mut self, city: City, namespace: &str, alias: &str, tables: TableLookup<'_>) -> Result<Option<TableProof>, Error> {
        let key = MapKey::Alias(namespace, alias.as_bytes());
        self.add(&key);
        match self.read(&key)? {
            Some(record) => self.item(&named_place(&record, city)?.1, tables),
            None => Ok(None),
        }
    }

    fn item(&mut self, place: &Place, tables: TableLookup<'_>) -> Result<Option<TableProof>, Error> {
        let Place { city, class, serial } = *place;
        let (million, thousand) = (MapKey::Million(city, class, serial), MapKey::Thousand(city, class, serial));
        let (key, record) = match self.read(&thousand)? {
            Some(record) => (thousand, record),
            None => match self.read(&million)? {
                Some(record) => (million, record),
                None => {
                    let _ = self.add(&MapKey::Class(city, class)) && self.add(&million);
                    return Ok(None);
                }
            },
        };
        let (sealed, shows_item) = match Range::read(&record, place)? {
            Range::Open => {
                self.add(&million);
                self.add(&thousand);
                return Ok(None);
            }
            Range::Items => (None, true),
            Range::Sealed(sealed) => (Some(sealed), sealed.table.overrides > 0),
        };
        // A table that does not fit the range's root is damaged: as good as not at hand.
        let fits = |proof: &TableProof, sealed: &Sealed| proof.verify(&sealed.table.root, sealed.table.depth, sealed.index).is_ok();
        let table = sealed.and_then(|sealed| tables(&sealed.table, sealed.index).filter(|proof| fits(proof, &sealed)));
        let own = if shows_item { self.read(&place.item_key())? } else { None };
        let leaf = match table.as_ref().and_then(|table| table.leaf.as_ref()) {
            Some(leaf) => Some(Record::decode(&leaf.record)?),
            None => None,
        };
        if let Some(org) = newer(own.as_ref(), leaf.as_ref()).map(|record| place.code_of(record)).transpose()?.and_then(|code| code.org()) {
            self.add(&MapKey::Organisation(city, org));
        }
        self.add(&key);
        if shows_item {
            self.add(&place.item_key());
        }
        Ok(table)
    }
}
