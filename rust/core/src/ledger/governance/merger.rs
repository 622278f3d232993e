//! Merged and renamed cities (P68): old codes resolve for ever, and somebody can always manage them.
use super::super::execute::Context;
use super::{configuration, configure, member, successor};
use crate::code::City;
use crate::error::Error;
use crate::map_key::MapKey;
use crate::record::{Record, Status, MAX_CITIES};

/// P68: a city is continued by another, which from now on signs what the city signed.
pub fn merge(context: &mut Context<'_, '_, '_>, city: City, into: City) -> Result<(), Error> {
    let (record, heir) = (member(context, city)?, member(context, into)?);
    for (name, record) in [(city, &record.record), (into, &heir.record)] {
        if record.status != Status::Active {
            return Err(Error::rule("suspended", format!("{name} is {}; cities are merged while they are active", record.status.name())));
        }
    }
    if let Some(successor) = successor(&heir.record) {
        return Err(Error::rule("bad_transition", format!("{into} was itself merged into {successor}; name that city")));
    }
    let before = successor(&record.record);
    if city == into || before == Some(into) {
        return Err(Error::rule("bad_transition", format!("{city} is continued by {into} already")));
    }
    if configuration(context)?.1.committee.contains(&city) {
        return Err(Error::rule("in_committee", format!("{city} votes on blocks; take it out of the committee first")));
    }
    if predecessors(&heir.record).len() >= MAX_CITIES {
        return Err(Error::rule("too_large", format!("{into} continues {MAX_CITIES} cities already, which is the limit")));
    }
    context.overlay.update(&MapKey::City(city), &record, |record| {
        record.administered_by = Some(into);
        record.succession.get_or_insert_default().successor = Some(into);
    })?;
    edit_predecessors(context, into, |cities| cities.push(city))?;
    match before {
        // Merged before into another city: that one continues it no longer.
        Some(before) => edit_predecessors(context, before, |cities| cities.retain(|predecessor| *predecessor != city))?,
        None => configure(context, |configuration| configuration.members -= 1)?,
    }
    hand_over(context, city, into)
}

/// What was merged into the city, and into that, is administered by its heir too.
fn hand_over(context: &mut Context<'_, '_, '_>, city: City, into: City) -> Result<(), Error> {
    let mut waiting = predecessors_of(context, city)?;
    // No city has two successors, so each is met once.
    while let Some(next) = waiting.pop() {
        let Some(entry) = context.overlay.get(&MapKey::City(next))? else { continue };
        waiting.extend(predecessors(&entry.record));
        if entry.record.status != Status::Retired {
            context.overlay.update(&MapKey::City(next), &entry, |record| record.administered_by = Some(into))?;
        }
    }
    Ok(())
}

fn predecessors(record: &Record) -> &[City] {
    record.succession.as_ref().map_or(&[], |succession| &succession.predecessors)
}

fn predecessors_of(context: &mut Context<'_, '_, '_>, city: City) -> Result<Vec<City>, Error> {
    Ok(context.overlay.get(&MapKey::City(city))?.map(|entry| predecessors(&entry.record).to_vec()).unwrap_or_default())
}

fn edit_predecessors(context: &mut Context<'_, '_, '_>, city: City, edit: impl FnOnce(&mut Vec<City>)) -> Result<(), Error> {
    let Some(entry) = context.overlay.get(&MapKey::City(city))? else { return Ok(()) };
    context.overlay.update(&MapKey::City(city), &entry, |record| {
        let mut succession = record.succession.take().unwrap_or_default();
        edit(&mut succession.predecessors);
        succession.predecessors.sort_unstable();
        // One encoding of each meaning: what says nothing is left out.
        record.succession = (*succession != Default::default()).then_some(succession);
    })
}
