//! Categories and single items (P24 to P26), and what every operation on an item starts from.
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
    check_category(context, holder, category)?;
    let height = context.overlay.height();
    let holder_code = holder.code().text();
    let mut last_range = None;
    for item in items {
        // Items ascend, so the range is looked up once a thousand.
        if last_range != Some(item.serial.thousand()) {
            enter_range(context, holder, &holder_code, category.class, item.serial)?;
            last_range = Some(item.serial.thousand());
        }
        context.check_profile(&item.commitments, &item.services)?;
        let code = Code::Item { city: holder.city, org: holder.org, category: *category, serial: item.serial };
        let mut record = Record::new(Kind::Item, height);
        record.status = item.status;
        record.code = Some(code.text());
        record.commitments.clone_from(&item.commitments);
        record.services.clone_from(&item.services);
        if !context.overlay.create(&MapKey::Item(holder.city, category.class, item.serial), record)? {
            return Err(Error::rule(
                "exists",
                format!("serial {} of class {} is registered already; update it, or take another serial", item.serial, category.class),
            ));
        }
    }
    Ok(Output::None)
}

/// Refuses a serial outside the holder's active ranges and in sealed ones, and notes that the range has single items (P46).
fn enter_range(context: &mut Context<'_, '_, '_>, holder: &Holder, holder_code: &str, class: Class, serial: Serial) -> Result<(), Error> {
    let held = range_of(context, holder.city, class, serial)?;
    let Some((key, range)) = held.filter(|(_, range)| range.record.holder.as_deref() == Some(holder_code)) else {
        return Err(Error::rule(
            "not_in_range",
            format!("serial {serial} of class {class} is in no range of {holder_code}; allocate a range and use its serials"),
        ));
    };
    if range.record.children == Children::Table {
        return Err(sealed(serial));
    }
    if range.record.status != Status::Active {
        return Err(Error::rule("suspended", format!("the range of serial {serial} is {}", range.record.status.name())));
    }
    if !range.record.used {
        context.overlay.update(&key, &range, |record| record.used = true)?;
    }
    Ok(())
}

fn sealed(serial: Serial) -> Error {
    Error::rule(
        "sealed",
        format!("the range of serial {serial} is sealed, and its table may hold the item; override it with a table proof"),
    )
}

/// An item as an operation finds it: every operation on an item starts with [`item`] and writes with [`Item::change`].
pub struct Item {
    /// Where its record stands.
    pub key: MapKey<'static>,
    /// The record.
    pub entry: Arc<Entry>,
    /// Its code.
    pub code: Code,
    /// Who holds it now (P57).
    pub holder: Holder,
    /// The range, when it is sealed.
    sealed_range: Option<MapKey<'static>>,
}

impl Item {
    /// Writes the next version of the record, changed by `edit`.
    pub fn change(&self, context: &mut Context<'_, '_, '_>, edit: impl FnOnce(&mut Record)) -> Result<(), Error> {
        context.overlay.update(&self.key, &self.entry, edit)?;
        self.touch_range(context)
    }

    /// Makes a new version of a sealed range without changing what it says, because an item of it changed: a seal whose receipts
    /// were signed before names an older version and is stale (P46). Else it would take the change back.
    fn touch_range(&self, context: &mut Context<'_, '_, '_>) -> Result<(), Error> {
        match &self.sealed_range {
            None => Ok(()),
            Some(key) => match context.overlay.get(key)? {
                Some(range) => context.overlay.update(key, &range, |_| {}),
                None => Err(Error::malformed("an item of a range that does not exist")),
            },
        }
    }
}

/// The item under a serial. In a sealed range the record must be from after the seal, so that it is newer than any leaf; an
/// older one may have been taken up by the table, and a change of it would have to be counted in the range's record (P47).
pub fn item(context: &mut Context<'_, '_, '_>, city: City, class: Class, serial: Serial) -> Result<Item, Error> {
    let unknown = || Error::rule("unknown_code", format!("serial {serial} of class {class} in {city} is not registered"));
    let (range_key, range) = range_of(context, city, class, serial)?.ok_or_else(unknown)?;
    let key = MapKey::Item(city, class, serial);
    let entry = context.overlay.get(&key)?;
    if let Some(table) = &range.record.table {
        if entry.as_ref().is_none_or(|entry| entry.record.height <= table.height) {
            return Err(sealed(serial));
        }
    }
    let entry = entry.ok_or_else(unknown)?;
    let code = Code::parse(entry.record.code.as_deref().unwrap_or_default(), None)?;
    let holder = holder_of(&entry.record, &range.record)?;
    Ok(Item { key, entry, code, holder, sealed_range: range.record.table.map(|_| range_key) })
}

/// The item of a code, which must be the one that is registered under its serial.
pub fn item_of_code(context: &mut Context<'_, '_, '_>, code: &Code) -> Result<Item, Error> {
    let (Some(city), Some(category), Some(serial)) = (code.city(), code.category(), code.serial()) else {
        return Err(Error::rule("unknown_code", format!("{code} is not the code of an item")));
    };
    let item = item(context, city, category.class, serial)?;
    if item.code != *code {
        return Err(Error::rule("unknown_code", format!("{code} is not registered; that serial belongs to {}", item.code)));
    }
    Ok(item)
}

/// Who holds an item: the holder of its record, else the present holder of its range (P57).
pub fn holder_of(item: &Record, range: &Record) -> Result<Holder, Error> {
    match item.holder.as_ref().or(range.holder.as_ref()) {
        Some(holder) => Holder::parse(holder),
        None => Err(Error::malformed("an item in a range that nobody holds")),
    }
}

/// Refuses a category that its holder did not register, or that is not active.
pub fn check_category(context: &mut Context<'_, '_, '_>, holder: &Holder, category: &Category) -> Result<(), Error> {
    match context.overlay.get(&MapKey::Category(holder.city, holder.org, *category))? {
        None => Err(Error::rule("no_category", format!("{}/{category} is not registered; register the category first", holder.code()))),
        Some(entry) if entry.record.status != Status::Active => {
            Err(Error::rule("suspended", format!("{}/{category} is {}", holder.code(), entry.record.status.name())))
        }
        Some(_) => Ok(()),
    }
}

/// P26: the holder changes items.
pub fn update(context: &mut Context<'_, '_, '_>, city: City, class: Class, items: &[ItemUpdate]) -> Result<Output, Error> {
    let mut touched = None;
    for change in items {
        let item = item(context, city, class, change.serial)?;
        context.authorise_holder(&item.holder)?;
        if item.entry.record.status == Status::Retired {
            return Err(Error::rule("retired", format!("{} is retired; a retired code never changes again", item.code)));
        }
        check_version(&item.entry, change.expected_version)?;
        context.check_profile(&change.commitments, &change.services)?;
        context.overlay.update(&item.key, &item.entry, |record| {
            record.commitments.clone_from(&change.commitments);
            record.services.clone_from(&change.services);
        })?;
        // Nothing comes between the items of an operation, so one new version of their range stands for all of them.
        let range = item.sealed_range.as_ref().map(MapKey::encode);
        if range != touched {
            item.touch_range(context)?;
            touched = range;
        }
    }
    Ok(Output::None)
}
