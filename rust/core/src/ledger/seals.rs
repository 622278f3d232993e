//! Which tables the committed state names: the sealed ranges by their map keys (P46).
//!
//! The state stands under hashes of its keys, so nobody could list its sealed ranges; the ledger notes them as records of ranges
//! are written. A range is never unsealed, and a later table of it takes the place of the one before.
use super::operation::Range;
use crate::code::{City, Class, Serial};
use crate::error::Error;
use crate::hash::Hash;
use crate::map_key::Kind;
use crate::record::Record;
use std::collections::BTreeMap;

/// Sealed ranges by encoded map key, with the digests of their tables.
#[derive(Debug, Default)]
pub(super) struct Seals(BTreeMap<Vec<u8>, Hash>);

impl Seals {
    /// Reads the records that some heights wrote, in order: the sealed ranges among them, and the digests of the tables that the
    /// height `height` sealed, each once.
    pub fn read<'a>(changes: impl Iterator<Item = (&'a [u8], &'a [u8])>, height: u64) -> Result<(Seals, Vec<Hash>), Error> {
        let mut seals = Seals::default();
        let mut digests = Vec::new();
        for (key, record) in changes {
            if let Some((digest, at)) = sealed(key, record)? {
                // An override writes the range's record, too; its table is then of an earlier height, or stands here already.
                if at == height && !digests.contains(&digest) {
                    digests.push(digest);
                }
                seals.0.insert(key.to_vec(), digest);
            }
        }
        Ok((seals, digests))
    }

    /// Takes up what was read of later heights.
    pub fn take(&mut self, later: Seals) {
        self.0.extend(later.0);
    }

    /// Every sealed range and the digest of its table: million ranges first, then ascending by city, class and base.
    pub fn list(&self) -> Result<Vec<(Range, Hash)>, Error> {
        self.0.iter().map(|(key, digest)| Ok((range_of(key)?, *digest))).collect()
    }
}

/// Digest and height of the table of a range.
fn sealed(key: &[u8], record: &[u8]) -> Result<Option<(Hash, u64)>, Error> {
    let is_range = key.first().is_some_and(|kind| [Kind::Million as u8, Kind::Thousand as u8].contains(kind));
    if !is_range {
        return Ok(None);
    }
    Ok(Record::decode(record)?.table.map(|table| (table.digest, table.height)))
}

/// The range of an encoded map key (P8).
fn range_of(key: &[u8]) -> Result<Range, Error> {
    let foreign = || Error::malformed("a map key that is not one of a range");
    let text = std::str::from_utf8(key.get(1..).ok_or_else(foreign)?).map_err(|_| foreign())?;
    let (size, digits) = if key[0] == Kind::Million as u8 { (1_000_000, 3) } else { (1_000, 6) };
    let (Some(city), Some(class), Some(start)) = (text.get(..6), text.get(6..12), text.get(12..12 + digits)) else {
        return Err(foreign());
    };
    let start: u64 = start.parse().map_err(|_| foreign())?;
    Range::new(City::parse(city)?, Class::parse(class)?, Serial::new((start * size) as u32)?, size)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::map_key::MapKey;
    use crate::record::{Children, Table};

    fn range(size: u64, base: u32) -> Result<Range, Error> {
        Range::new(City::parse("130100")?, Class::parse("010203")?, Serial::new(base)?, size)
    }

    fn change(range: &Range, digest: Option<u8>, height: u64) -> (Vec<u8>, Vec<u8>) {
        let mut record = Record::new(range.key().kind(), height);
        record.holder = Some("MA.156.130100.A7K2".to_owned());
        record.children = if digest.is_some() { Children::Table } else { Children::Items };
        record.table = digest.map(|byte| Table {
            root: [byte; 32],
            depth: if range.size == 1_000 { 10 } else { 20 },
            version: 1,
            height,
            overrides: 0,
            digest: [byte; 32],
            count: 1,
        });
        (range.key().encode(), record.encode())
    }

    fn read(changes: &[(Vec<u8>, Vec<u8>)], height: u64) -> Result<(Seals, Vec<Hash>), Error> {
        Seals::read(changes.iter().map(|(key, record)| (&key[..], &record[..])), height)
    }

    #[test]
    fn sealed_ranges_are_listed_with_their_newest_tables() -> Result<(), Error> {
        let (thousand, million, open) = (range(1_000, 12_000)?, range(1_000_000, 7_000_000)?, range(1_000, 13_000)?);
        let city = (MapKey::City(City::parse("130100")?).encode(), vec![0xff]);
        let first =
            [change(&thousand, Some(1), 5), change(&open, None, 5), city, change(&million, Some(2), 5), change(&million, Some(2), 5)];
        let (mut seals, digests) = read(&first, 5)?;
        assert_eq!(digests, [[1; 32], [2; 32]]);
        assert_eq!(seals.list()?, [(million, [2; 32]), (thousand, [1; 32])]);
        let mut counted = change(&million, Some(2), 5);
        counted.1 = {
            let mut record = Record::decode(&counted.1)?.next_version(&counted.1, 6);
            record.table = record.table.map(|table| Table { overrides: 1, ..table });
            record.encode()
        };
        let (later, digests) = read(&[counted, change(&thousand, Some(3), 6)], 6)?;
        assert_eq!(digests, [[3; 32]], "an override seals nothing");
        seals.take(later);
        assert_eq!(seals.list()?, [(million, [2; 32]), (thousand, [3; 32])]);
        Ok(())
    }

    #[test]
    fn a_damaged_record_of_a_range_is_an_error() -> Result<(), Error> {
        let (key, _) = change(&range(1_000, 0)?, None, 1);
        assert!(matches!(read(&[(key, vec![0xff])], 1), Err(Error::Malformed(_))));
        Ok(())
    }
}
