//! Ranges (P12, P23): handed out in block order, so that nobody coordinates and nothing overlaps.
use super::execute::{Context, Output};
use super::operation::Holder;
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
    let key = MapKey::Class(holder.city, class);
    let entry = context.overlay.get(&key)?;
    let mut allocation = entry.as_ref().and_then(|entry| entry.record.allocation).unwrap_or_default();
    let base = if size == 1_000_000 {
        let million = take_million(&mut allocation, class)?;
        let serial = Serial::new((million * 1_000_000) as u32)?;
        context.overlay.put(&MapKey::Million(holder.city, class, serial), held_range(context, Kind::Million, holder))?;
        serial
    } else {
        let serial = take_thousand(context, holder.city, class, &mut allocation)?;
        context.overlay.put(&MapKey::Thousand(holder.city, class, serial), held_range(context, Kind::Thousand, holder))?;
        serial
    };
    match &entry {
        Some(entry) => context.overlay.update(&key, entry, |record| record.allocation = Some(allocation))?,
        None => {
            let mut record = Record::new(Kind::Class, context.overlay.height());
            record.allocation = Some(allocation);
            record.children = Children::Map;
            context.overlay.put(&key, record)?;
        }
    }
    Ok(Output::Range(u64::from(base.get()), size))
}

fn held_range(context: &Context<'_, '_, '_>, kind: Kind, holder: &Holder) -> Record {
    let mut record = Record::new(kind, context.overlay.height());
    record.holder = Some(holder.code().text());
    record.children = Children::Items;
    record
}

fn take_million(allocation: &mut Allocation, class: Class) -> Result<u64, Error> {
    if allocation.next_million >= MILLIONS {
        return Err(Error::rule("exhausted", format!("every million range of class {class} is taken; use another class")));
    }
    allocation.next_million += 1;
    Ok(allocation.next_million - 1)
}

fn take_thousand(context: &mut Context<'_, '_, '_>, city: City, class: Class, allocation: &mut Allocation) -> Result<Serial, Error> {
    let million = match allocation.open_million {
        Some(million) if allocation.next_thousand < THOUSANDS => million,
        _ => {
            let million = take_million(allocation, class)?;
            let mut opened = Record::new(Kind::Million, context.overlay.height());
            opened.children = Children::Map;
            context.overlay.put(&MapKey::Million(city, class, Serial::new((million * 1_000_000) as u32)?), opened)?;
            allocation.open_million = Some(million);
            allocation.next_thousand = 0;
            million
        }
    };
    let base = million * 1_000_000 + allocation.next_thousand * 1_000;
    allocation.next_thousand += 1;
    Serial::new(base as u32)
}

/// An organisation may hold `quota` serials of a class; a city is bound by the class alone.
pub fn charge_quota(context: &mut Context<'_, '_, '_>, holder: &Holder, class: Class, size: u64) -> Result<(), Error> {
    let Some(org) = holder.org else { return Ok(()) };
    let quota = context.subject(holder)?.and_then(|entry| entry.record.quota).unwrap_or(0);
    let key = MapKey::Holding(holder.city, org, class);
    let entry = context.overlay.get(&key)?;
    let held = entry.as_ref().and_then(|entry| entry.record.serials).unwrap_or(0);
    let wanted = held.saturating_add(size);
    if wanted > quota {
        return Err(Error::rule(
            "over_quota",
            format!("{} holds {held} serials of class {class} and may hold {quota}; ask its city for more", holder.code()),
        ));
    }
    match &entry {
        Some(entry) => context.overlay.update(&key, entry, |record| record.serials = Some(wanted)),
        None => {
            let mut record = Record::new(Kind::Holding, context.overlay.height());
            record.serials = Some(wanted);
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
