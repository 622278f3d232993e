//! Records of items that are alike: the same bytes, but for the serial in the code and the hashes of the commitments.
//!
//! A table of a million rows from one register has one shape, or a few. The first record of a shape is decoded and looked at whole;
//! of the next ones only that they have its bytes where it is fixed, and the code of their own serial. What holds of one record of a
//! shape then holds of all, as long as it does not depend on the serial or on the hashes.
use super::file::Head;
use crate::code::{Category, Code, Org, Serial, Series, SERIAL_AND_CHECK};
use crate::error::Error;
use crate::record::Record;
use std::ops::Range;

/// Shapes that are kept at once; a record of another one takes the place of the oldest.
const KEPT: usize = 8;

/// What records that are alike have in common.
#[derive(Debug)]
pub struct Shape {
    /// The first record that had it.
    first: Record,
    org: Option<Org>,
    category: Category,
    series: Series,
    bytes: Vec<u8>,
    /// Where every record has the same bytes; ascending.
    fixed: Vec<Range<usize>>,
    /// Where the end of the code begins, which depends on the serial.
    end: usize,
    /// For whoever looks at records: this shape was found to be good.
    pub is_accepted: bool,
}

impl Shape {
    /// The shape of a record.
    ///
    /// Errors: [`Error::Malformed`] when it is no item whose own code is of this place.
    fn new(head: &Head, index: u32, record: &[u8]) -> Result<Shape, Error> {
        let (first, code) = head.item(index, record)?;
        let Code::Item { city, org, category, .. } = code else {
            return Err(Error::malformed("a record of a table whose code names no item"));
        };
        // Where an encoding changes with a field, that field stands.
        let mut other = first.clone();
        other.commitments.iter_mut().for_each(|(_, hash)| *hash = hash.map(|byte| !byte));
        let hashes = other.encode();
        let mut other = first.clone();
        other.code = first.code.as_deref().map(with_other_end);
        let codes = other.encode();
        let is_same = |other: &[u8], at: usize| other[at] == record[at];
        let fixed = ranges((0..record.len()).filter(|at| is_same(&hashes, *at) && is_same(&codes, *at)));
        let end = (0..record.len()).find(|at| !is_same(&codes, *at)).unwrap_or_default();
        Ok(Shape { series: Series::new(city, org, category), org, category, first, bytes: record.to_vec(), fixed, end, is_accepted: false })
    }

    /// The first record of this shape that came.
    pub fn first(&self) -> &Record {
        &self.first
    }

    /// Who issues items of this shape, and as what.
    pub fn issuer(&self) -> (Option<Org>, Category) {
        (self.org, self.category)
    }

    /// Whether a record has this shape, with the code of its own serial.
    fn holds(&self, serial: Serial, record: &[u8]) -> bool {
        record.len() == self.bytes.len()
            && self.fixed.iter().all(|range| record[range.clone()] == self.bytes[range.clone()])
            && record[self.end..self.end + SERIAL_AND_CHECK] == self.series.end(serial)
    }
}

/// A code with another character at each place that depends on the serial.
fn with_other_end(code: &str) -> String {
    let (stem, end) = code.split_at(code.len() - SERIAL_AND_CHECK);
    stem.chars().chain(end.chars().map(|character| if character == '0' { '1' } else { '0' })).collect()
}

/// Ascending positions as ranges.
fn ranges(positions: impl Iterator<Item = usize>) -> Vec<Range<usize>> {
    let mut ranges: Vec<Range<usize>> = Vec::new();
    for at in positions {
        match ranges.last_mut() {
            Some(last) if last.end == at => last.end += 1,
            _ => ranges.push(at..at + 1),
        }
    }
    ranges
}

/// The shapes that came so far of one table.
#[derive(Debug)]
pub struct Shapes<'h> {
    head: &'h Head,
    /// The shape that was used last stands first.
    kept: Vec<Shape>,
}

impl<'h> Shapes<'h> {
    /// None yet.
    pub fn new(head: &'h Head) -> Shapes<'h> {
        Shapes { head, kept: Vec::new() }
    }

    /// The shape of a record at an index.
    ///
    /// Errors: [`Error::Malformed`] when it is no item whose own code is of this place.
    pub fn of(&mut self, index: u32, record: &[u8]) -> Result<&mut Shape, Error> {
        let serial = self.head.serial(index)?;
        let position = match self.kept.iter().position(|shape| shape.holds(serial, record)) {
            Some(position) => position,
            None => {
                let shape = Shape::new(self.head, index, record)?;
                self.kept.truncate(KEPT - 1);
                self.kept.push(shape);
                self.kept.len() - 1
            }
        };
        self.kept[..=position].rotate_right(1);
        Ok(&mut self.kept[0])
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::code::{City, Class, Model, Use};
    use crate::ledger::operation::Range as SerialRange;
    use crate::map_key::Kind;

    const BASE: u32 = 7_000;

    fn head() -> Head {
        let (city, class) = (City::parse("130100").unwrap(), Class::parse("010203").unwrap());
        let range = SerialRange::new(city, class, Serial::new(BASE).unwrap(), 1_000).unwrap();
        Head { genesis: [3; 32], range, version: 1, previous: None, seed: [0; 32], count: 0, templates: Vec::new() }
    }

    fn item(index: u32, attributes: &[(&str, u8)], change: impl Fn(&mut Record)) -> Vec<u8> {
        let range = head().range;
        let category = Category { use_: Use::parse("60").unwrap(), class: range.class, model: Model::parse("1").unwrap() };
        let mut record = Record::new(Kind::Item, 5);
        let serial = Serial::new(BASE + index).unwrap();
        record.code = Some(Code::Item { city: range.city, org: None, category, serial }.text());
        record.commitments = attributes.iter().map(|(name, byte)| ((*name).to_owned(), [*byte; 32])).collect();
        change(&mut record);
        record.encode()
    }

    /// Whether a record is taken for one of a shape that was there before it.
    fn is_known(shapes: &mut Shapes<'_>, index: u32, record: &[u8]) -> bool {
        std::mem::replace(&mut shapes.of(index, record).unwrap().is_accepted, true)
    }

    #[test]
    fn records_that_differ_in_serial_and_hashes_have_one_shape() {
        let head = head();
        let mut shapes = Shapes::new(&head);
        assert!(!is_known(&mut shapes, 1, &item(1, &[("a", 1), ("b", 2)], |_| ())));
        assert!(is_known(&mut shapes, 2, &item(2, &[("a", 200), ("b", 0)], |_| ())));
        assert!(is_known(&mut shapes, 999, &item(999, &[("a", 1), ("b", 1)], |_| ())));
    }

    #[test]
    fn every_other_difference_is_another_shape() {
        let head = head();
        let mut shapes = Shapes::new(&head);
        let plain = item(1, &[("a", 1)], |_| ());
        assert!(!is_known(&mut shapes, 1, &plain));
        for other in [
            item(2, &[("b", 1)], |_| ()),
            item(2, &[("a", 1)], |record| record.height = 6),
            item(2, &[("a", 1)], |record| record.status = crate::record::Status::Retired),
            item(2, &[("a", 1)], |record| record.services = vec![("web".into(), "https://a".into())]),
            item(2, &[("a", 1)], |record| record.offered_to = Some("MA.156.130100.A7K2".into())),
            item(2, &[], |_| ()),
        ] {
            assert!(!is_known(&mut shapes, 2, &other));
        }
        assert!(is_known(&mut shapes, 1, &plain), "the first one is kept beside them");
    }

    #[test]
    fn a_known_shape_excuses_neither_the_code_of_another_serial_nor_damage() {
        let head = head();
        let mut shapes = Shapes::new(&head);
        let good = item(1, &[("a", 1)], |_| ());
        assert!(!is_known(&mut shapes, 1, &good));
        assert!(shapes.of(2, &good).unwrap_err().to_string().contains("is not one of this city, class and serial"));
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            // Only within the one hash a flipped bit is another good record.
            let is_good = shapes.of(1, &bad).is_ok_and(|shape| shape.first().commitments.len() == 1 && bad.len() == good.len());
            let decodes = head.item(1, &bad).is_ok();
            assert_eq!(is_good, decodes, "byte {at}");
        }
    }

    #[test]
    fn fields_behind_the_code_are_fixed() {
        let head = head();
        let mut shapes = Shapes::new(&head);
        let offered = |index, to: &str| item(index, &[("a", 1)], |record| record.offered_to = Some(to.to_owned()));
        assert!(!is_known(&mut shapes, 1, &offered(1, "MA.156.130100.A7K2")));
        assert!(is_known(&mut shapes, 2, &offered(2, "MA.156.130100.A7K2")));
        assert!(!is_known(&mut shapes, 2, &offered(2, "MA.156.130100.A7K3")));
    }

    #[test]
    fn only_so_many_shapes_are_kept() {
        let head = head();
        let mut shapes = Shapes::new(&head);
        for height in 0..100 {
            assert!(!is_known(&mut shapes, 1, &item(1, &[], |record| record.height = height)));
        }
        assert_eq!(shapes.kept.len(), KEPT);
        assert!(is_known(&mut shapes, 1, &item(1, &[], |record| record.height = 99)));
        assert!(!is_known(&mut shapes, 1, &item(1, &[], |record| record.height = 0)));
    }
}
