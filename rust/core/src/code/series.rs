//! Item codes of one category, serial after serial: what they share is written and summed once.
use super::check::CheckSum;
use super::{Category, City, Code, Org, Serial, NATIVE_PREFIX};

/// Bytes at the end of an item's code that depend on its serial: nine digits and the check character.
pub const SERIAL_AND_CHECK: usize = 10;

/// The item codes of a holder's category.
#[derive(Clone, Debug)]
pub struct Series {
    stem: String,
    sum: CheckSum,
}

impl Series {
    /// Codes of this holder and category.
    pub fn new(city: City, org: Option<Org>, category: Category) -> Series {
        let mut stem = Code::Category { city, org, category }.text();
        stem.push('/');
        let sum = CheckSum::AFTER_PREFIX.over(&stem.as_bytes()[NATIVE_PREFIX.len()..]);
        Series { stem, sum }
    }

    /// What every code of the series starts with.
    pub fn stem(&self) -> &str {
        &self.stem
    }

    /// What the code of a serial ends with.
    pub fn end(&self, serial: Serial) -> [u8; SERIAL_AND_CHECK] {
        let mut end = [0; SERIAL_AND_CHECK];
        end[..9].copy_from_slice(&serial.digits());
        end[9] = self.sum.over(&end[..9]).character();
        end
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::code::{Class, Model, Use};

    #[test]
    fn codes_are_those_that_codes_write() {
        let (city, class) = (City::parse("130100").unwrap(), Class::parse("010203").unwrap());
        for org in [None, Some(Org::parse("A7K2").unwrap()), Some(Org::parse("91130100").unwrap())] {
            let category = Category { use_: Use::parse("60").unwrap(), class, model: Model::parse("LAMP").unwrap() };
            let series = Series::new(city, org, category);
            for number in [0, 1, 9, 10, 12_345, 999_999_999] {
                let serial = Serial::new(number).unwrap();
                let code = Code::Item { city, org, category, serial }.text();
                assert_eq!(format!("{}{}", series.stem(), std::str::from_utf8(&series.end(serial)).unwrap()), code);
            }
        }
    }
}
