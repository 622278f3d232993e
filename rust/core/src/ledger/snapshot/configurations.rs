//! The versions of the record of parameters (kind 11), as far back as remembered transaction ids depend on them (P19, P82).
//!
//! How long the ids of a block are remembered follows from the window before it, which governance may have changed since. The present
//! version is in the state; each version names the one before by its hash, so a list of them proves what the windows were.
use crate::error::Error;
use crate::genesis::Parameters;
use crate::map_key::Kind;
use crate::record::{record_hash, Record};
use std::collections::VecDeque;

/// The greatest value of the parameter `window` (P6): no id is remembered for longer.
pub const MOST_WINDOW: u64 = 1_000_000;

/// Encoded records, ascending by version, with their heights.
#[derive(Clone, Debug, Default)]
pub struct Configurations(VecDeque<(u64, Box<[u8]>)>);

impl Configurations {
    /// The versions among the records that a block wrote, in order.
    pub fn read<'a>(changes: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Result<Configurations, Error> {
        let mut read = Configurations::default();
        read.note(changes)?;
        Ok(read)
    }

    /// Takes up the versions among the records that a block wrote, in order.
    pub fn note<'a>(&mut self, changes: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Result<(), Error> {
        for (_, record) in changes.filter(|(key, _)| key == &[Kind::Parameters as u8]) {
            self.0.push_back((Record::decode(record)?.height, record.into()));
        }
        Ok(())
    }

    /// Takes up what was read of later heights.
    pub fn take(&mut self, later: Configurations) {
        self.0.extend(later.0);
    }

    /// Forgets what held before a height only.
    pub fn forget_before(&mut self, height: u64) {
        while self.0.get(1).is_some_and(|(next, _)| *next <= height) {
            self.0.pop_front();
        }
    }

    /// The encoded versions, ascending.
    pub fn records(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(|(_, record)| &record[..])
    }

    /// Takes one more version, which must follow the last one. A first one may be any.
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let record = Record::decode(bytes)?;
        let previous = self.0.back().map(|(_, before)| record_hash(before));
        if record.kind != Kind::Parameters || previous.is_some_and(|previous| record.previous != Some(previous)) {
            return Err(Error::proof("a version of the parameters does not follow the one before it"));
        }
        self.0.push_back((record.height, bytes.into()));
        Ok(())
    }

    /// P82: that these versions lead to the present record, and say the window before every block whose ids `height` may remember.
    pub(super) fn check(&self, present: &[u8], height: u64) -> Result<(), Error> {
        let reaches_back = match self.0.front() {
            Some((first, bytes)) => *first <= height.saturating_sub(MOST_WINDOW) || Record::decode(bytes)?.version == 1,
            None => false,
        };
        if !reaches_back || self.0.back().is_none_or(|(_, last)| last[..] != *present) {
            return Err(Error::proof("the versions of the parameters do not lead from far enough back to the state's"));
        }
        Ok(())
    }

    /// The window before a block of this height.
    pub(super) fn window_before(&self, height: u64) -> Result<u64, Error> {
        let count = self.0.partition_point(|(from, _)| *from < height);
        let (_, bytes) = self.0.get(count.saturating_sub(1)).ok_or_else(|| Error::proof("no version of the parameters"))?;
        window(bytes)
    }

    /// The greatest height below `end` whose ids are still remembered after the block of `height`, if any.
    pub(super) fn last_remembered(&self, end: u64, height: u64) -> Result<Option<u64>, Error> {
        let mut found = None;
        for (place, (from, bytes)) in self.0.iter().enumerate() {
            let last = self.0.get(place + 1).map_or(height, |(next, _)| *next).min(end.saturating_sub(1));
            if last > *from && last.saturating_add(window(bytes)?) > height {
                found = Some(last);
            }
        }
        Ok(found)
    }
}

fn window(bytes: &[u8]) -> Result<u64, Error> {
    let values = Record::decode(bytes)?.parameters.as_slice().try_into();
    let values = values.map_err(|_| Error::malformed("a record of parameters of another length"))?;
    Ok(Parameters::from_values(values)?.window)
}
