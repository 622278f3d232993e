//! Ranges (P12, P23, P48): handed out in block order, so that nobody coordinates and nothing overlaps.
use super::execute::{Context, Output};
use super::operation::{Holder, Range};
use super::overlay::Entry;
use crate::code::{City, Class, Serial};
use crate::error::Error;
use crate::map_key::{Kind, MapKey};
use crate::record::{Allocation, Children, Record};
use std::sync::Arc;

const MILLIONS: u64 = 1_000;
const THOUSANDS: u64 = 1_000;

/// P23: assigns the next free range.
pub fn allocate(context: &mut Context<'_, '_, '_>, holder: &Holder, class: Class, size: u64) -> Result<Output, Error> {
    context.authorise_holder(holder)?;
    charge_quota(context, holder, class, size)?;
    let mut space = Space::read(context, holder.city, class)?;
    let range = if size == 1_000_000 {
        Range::new(holder.city, class, space.take_million(context)?, size)?
    } else {
        Range::new(holder.city, class, space.take_thousand(context)?, size)?
    };
    hold(context, &range, holder)?;
    space.settle(context)?;
    Ok(Output::Range(u64::from(range.base.get()), size))
}

/// Writes the record of a range that somebody holds from now on.
pub fn hold(context: &mut Context<'_, '_, '_>, range: &Range, holder: &Holder) -> Result<(), Error> {
    let key = range.key();
    let mut record = Record::new(key.kind(), context.overlay.height());
    record.holder = Some(holder.code().text());
    record.children = Children::Items;
    context.overlay.put(&key, record)
}

/// The serials of a (city, class), and how far they were handed out.
///
/// `next_million` is the lowest million that nobody holds and that was not opened for thousands by allocation. Above it stand
/// millions that are free, held, or opened because one of their thousands was reserved (P48); the last are handed out by the
/// thousand when their turn comes. A search looks at a million or a thousand once, so at a thousand records at most.
pub struct Space {
    city: City,
    class: Class,
    entry: Option<Arc<Entry>>,
    allocation: Allocation,
}

impl Space {
    /// As it is now.
    pub fn read(context: &mut Context<'_, '_, '_>, city: City, class: Class) -> Result<Space, Error> {
        let entry = context.overlay.get(&MapKey::Class(city, class))?;
        let allocation = entry.as_ref().and_then(|entry| entry.record.allocation).unwrap_or_default();
        Ok(Space { city, class, entry, allocation })
    }

    /// The first serial of the lowest million that has no record.
    fn take_million(&mut self, context: &mut Context<'_, '_, '_>) -> Result<Serial, Error> {
        for million in self.allocation.next_million..MILLIONS {
            if self.million(context, million)?.is_none() {
                return first_serial(million, 0);
            }
        }
        Err(self.exhausted("no million range of it is free"))
    }

    /// The first serial of the next thousand of the open million that has no record; opens the next million when there is none.
    fn take_thousand(&mut self, context: &mut Context<'_, '_, '_>) -> Result<Serial, Error> {
        loop {
            if let Some(million) = self.allocation.open_million {
                while self.allocation.next_thousand < THOUSANDS {
                    let base = first_serial(million, self.allocation.next_thousand)?;
                    self.allocation.next_thousand += 1;
                    if !context.overlay.contains(&MapKey::Thousand(self.city, self.class, base)) {
                        return Ok(base);
                    }
                }
            }
            self.advance(context)?;
            let million = self.allocation.next_million;
            if million >= MILLIONS {
                return Err(self.exhausted("every thousand range of it is taken"));
            }
            if self.million(context, million)?.is_none() {
                self.open(context, first_serial(million, 0)?)?;
            }
            self.allocation.open_million = Some(million);
            self.allocation.next_thousand = 0;
            self.allocation.next_million += 1;
        }
    }

    /// Writes the record of a million that is divided into thousands.
    pub fn open(&self, context: &mut Context<'_, '_, '_>, base: Serial) -> Result<(), Error> {
        let mut record = Record::new(Kind::Million, context.overlay.height());
        record.children = Children::Map;
        context.overlay.put(&MapKey::Million(self.city, self.class, base), record)
    }

    /// Moves `next_million` over what is held.
    fn advance(&mut self, context: &mut Context<'_, '_, '_>) -> Result<(), Error> {
        while self.allocation.next_million < MILLIONS {
            match self.million(context, self.allocation.next_million)? {
                Some(entry) if entry.record.holder.is_some() => self.allocation.next_million += 1,
                _ => break,
            }
        }
        Ok(())
    }

    /// Writes what changed.
    pub fn settle(mut self, context: &mut Context<'_, '_, '_>) -> Result<(), Error> {
        self.advance(context)?;
        let key = MapKey::Class(self.city, self.class);
        let allocation = self.allocation;
        match &self.entry {
            Some(entry) if entry.record.allocation == Some(allocation) => Ok(()),
            Some(entry) => context.overlay.update(&key, entry, |record| record.allocation = Some(allocation)),
            None => {
                let mut record = Record::new(Kind::Class, context.overlay.height());
                record.allocation = Some(allocation);
                record.children = Children::Map;
                context.overlay.put(&key, record)
            }
        }
    }

    fn million(&self, context: &mut Context<'_, '_, '_>, million: u64) -> Result<Option<Arc<Entry>>, Error> {
        context.overlay.get(&MapKey::Million(self.city, self.class, first_serial(million, 0)?))
    }

    fn exhausted(&self, what: &str) -> Error {
        Error::rule("exhausted", format!("class {} of {} is used up: {what}; use another class", self.class, self.city))
    }
}

fn first_serial(million: u64, thousand: u64) -> Result<Serial, Error> {
    Serial::new((million * 1_000_000 + thousand * 1_000) as u32)
}

/// An organisation may hold `quota` serials of a class; a city is bound by the class alone.
pub fn charge_quota(context: &mut Context<'_, '_, '_>, holder: &Holder, class: Class, size: u64) -> Result<(), Error> {
    let Some(org) = holder.org else { return Ok(()) };
    let quota = context.subject(holder)?.and_then(|entry| entry.record.quota).unwrap_or(0);
    let held = context.overlay.get(&MapKey::Holding(holder.city, org, class))?.and_then(|entry| entry.record.serials).unwrap_or(0);
    if held.saturating_add(size) > quota {
        return Err(Error::rule(
            "over_quota",
            format!("{} holds {held} serials of class {class} and may hold {quota}; ask its city for more", holder.code()),
        ));
    }
    count_holding(context, holder, class, size)
}

/// Counts serials as held by an organisation, within its quota or not.
pub fn count_holding(context: &mut Context<'_, '_, '_>, holder: &Holder, class: Class, size: u64) -> Result<(), Error> {
    let Some(org) = holder.org else { return Ok(()) };
    let key = MapKey::Holding(holder.city, org, class);
    match context.overlay.get(&key)? {
        Some(entry) => context.overlay.update(&key, &entry, |record| record.serials = record.serials.map(|held| held.saturating_add(size))),
        None => {
            let mut record = Record::new(Kind::Holding, context.overlay.height());
            record.serials = Some(size);
            context.overlay.put(&key, record)
        }
    }
}

/// What a range that leaves an organisation gives back.
pub fn release_quota(context: &mut Context<'_, '_, '_>, holder: &Holder, class: Class, size: u64) -> Result<(), Error> {
    let Some(org) = holder.org else { return Ok(()) };
    let key = MapKey::Holding(holder.city, org, class);
    match context.overlay.get(&key)? {
        Some(entry) => context.overlay.update(&key, &entry, |record| {
            record.serials = Some(record.serials.unwrap_or(0).saturating_sub(size));
        }),
        None => Ok(()),
    }
}

/// The range that holds a serial, with its key: its million if somebody holds that, else its thousand.
pub fn range_of(
    context: &mut Context<'_, '_, '_>,
    city: City,
    class: Class,
    serial: Serial,
) -> Result<Option<(MapKey<'static>, Arc<Entry>)>, Error> {
    let million = MapKey::Million(city, class, serial);
    match context.overlay.get(&million)? {
        Some(entry) if entry.record.children == Children::Map => {
            let thousand = MapKey::Thousand(city, class, serial);
            Ok(context.overlay.get(&thousand)?.map(|entry| (thousand, entry)))
        }
        other => Ok(other.map(|entry| (million, entry))),
    }
}
