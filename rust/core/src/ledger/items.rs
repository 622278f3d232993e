//! Categories and items (P24 to P26).
use super::execute::{check_name, check_version, Context, Output};
use super::operation::{Holder, ItemUpdate, NewItem};
use super::overlay::Entry;
use super::ranges::range_of;
use crate::code::{Category, City, Class, Code, Serial};
use crate::error::Error;
use crate::hash::Hash;
use crate::map_key::{Kind, MapKey};
use crate::record::{Children, Record, Status};
use std::sync::Arc;

/// P24: a holder registers a category.
pub fn register_category(
    context: &mut Context<'_, '_, '_>,
    holder: &Holder,
    category: &Category,
    name: &str,
    schema: Option<Hash>,
) -> Result<Output, Error> {
    context.authorise_holder(holder)?;
    let key = MapKey::Category(holder.city, holder.org, *category);
    if context.overlay.contains(&key) {
        return Err(Error::rule("exists", format!("{}/{category} is registered already", holder.code())));
    }
    check_name(name)?;
    let mut record = Record::new(Kind::Category, context.overlay.height());
    record.name = Some(name.to_owned());
    record.schema = schema;
    context.overlay.put(&key, record)?;
    Ok(Output::None)
}

/// P25: a holder registers items in ranges that it holds.
pub fn register(context: &mut Context<'_, '_, '_>, holder: &Holder, category: &Category, items: &[NewItem]) -> Result<Output, Error> {
    context.authorise_holder(holder)?;
    match context.overlay.get(&MapKey::Category(holder.city, holder.org, *category))? {
        None => {
            return Err(Error::rule("no_category", format!("{}/{category} is not registered; register the category first", holder.code())))
        }
        Some(entry) if entry.record.status != Status::Active => {
            return Err(Error::rule("suspended", format!("{}/{category} is {}", holder.code(), entry.record.status.name())));
        }
        Some(_) => {}
    }
    let height = context.overlay.height();
    let mut last_range = None;
    for item in items {
        // Items ascend, so the range is looked up once a thousand.
        if last_range != Some(item.serial.thousand()) {
            check_range(context, holder, category.class, item.serial)?;
            last_range = Some(item.serial.thousand());
        }
        context.check_profile(&item.commitments, &item.services)?;
        let key = MapKey::Item(holder.city, category.class, item.serial);
        if context.overlay.contains(&key) {
            return Err(Error::rule(
                "exists",
                format!("serial {} of class {} is registered already; update it, or take another serial", item.serial, category.class),
            ));
        }
        let code = Code::Item { city: holder.city, org: holder.org, category: *category, serial: item.serial };
        let mut record = Record::new(Kind::Item, height);
        record.status = item.status;
        record.code = Some(code.text());
        record.commitments.clone_from(&item.commitments);
        record.services.clone_from(&item.services);
        context.overlay.put(&key, record)?;
    }
    Ok(Output::None)
}

fn check_range(context: &mut Context<'_, '_, '_>, holder: &Holder, class: Class, serial: Serial) -> Result<(), Error> {
    let held = range_of(context, holder.city, class, serial)?
        .filter(|range| range.record.holder.as_deref() == Some(holder.code().text().as_str()));
    let Some(range) = held else {
        return Err(Error::rule(
            "not_in_range",
            format!("serial {serial} of class {class} is in no range of {}; allocate a range and use its serials", holder.code()),
        ));
    };
    if range.record.children == Children::Table {
        return Err(sealed(serial));
    }
    if range.record.status != Status::Active {
        return Err(Error::rule("suspended", format!("the range of serial {serial} is {}", range.record.status.name())));
    }
    Ok(())
}

fn sealed(serial: Serial) -> Error {
    Error::rule("sealed", format!("the range of serial {serial} is sealed; its items are in the table, and no operation changes them"))
}

/// The item under a serial, with its code. Items of sealed ranges are refused.
pub fn item(context: &mut Context<'_, '_, '_>, city: City, class: Class, serial: Serial) -> Result<(Arc<Entry>, Code), Error> {
    let unknown = || Error::rule("unknown_code", format!("serial {serial} of class {class} in {city} is not registered"));
    let entry = context.overlay.get(&MapKey::Item(city, class, serial))?.ok_or_else(unknown)?;
    if range_of(context, city, class, serial)?.is_some_and(|range| range.record.children == Children::Table) {
        // A change would have to be counted as an override in the range's record, or answers would not look for it.
        return Err(sealed(serial));
    }
    let code = Code::parse(entry.record.code.as_deref().unwrap_or_default(), None)?;
    Ok((entry, code))
}

/// Who holds an item: the holder of its record, else the issuer in its code.
pub fn holder_of(record: &Record, code: &Code) -> Result<Holder, Error> {
    match (&record.holder, code.city()) {
        (Some(holder), _) => Holder::parse(holder),
        (None, Some(city)) => Ok(Holder { city, org: code.org() }),
        (None, None) => Err(Error::malformed("an item whose code names no city")),
    }
}

/// P26: the holder changes items.
pub fn update(context: &mut Context<'_, '_, '_>, city: City, class: Class, items: &[ItemUpdate]) -> Result<Output, Error> {
    for change in items {
        let (entry, code) = item(context, city, class, change.serial)?;
        let holder = holder_of(&entry.record, &code)?;
        context.authorise_holder(&holder)?;
        if entry.record.status == Status::Retired {
            return Err(Error::rule("retired", format!("{code} is retired; a retired code never changes again")));
        }
        check_version(&entry, change.expected_version)?;
        context.check_profile(&change.commitments, &change.services)?;
        context.overlay.update(&MapKey::Item(city, class, change.serial), &entry, |record| {
            record.commitments.clone_from(&change.commitments);
            record.services.clone_from(&change.services);
        })?;
    }
    Ok(Output::None)
}
