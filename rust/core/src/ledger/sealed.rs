//! Sealed ranges and the overrides of their items (P46, P47).
//!
//! What a table holds is for those to check who sign its receipts (P44, P45); the rule here sees its root, and of single items
//! what is proven under it. A leaf is therefore read as carefully as any input.
use super::execute::{check_version, Context, Output};
use super::items::{check_category, holder_of};
use super::operation::{Holder, NewItem, NewTable, Range, StorageReceipt};
use super::overlay::Entry;
use super::ranges::range_of;
use super::status::{check_move, set_in};
use crate::code::{Category, Code};
use crate::error::Error;
use crate::map_key::{Kind, MapKey};
use crate::record::{Children, Purpose, Record, Status, Table};
use crate::signature;
use crate::table::{storage_receipt_message, TableProof, MILLION_DEPTH, THOUSAND_DEPTH};
use std::sync::Arc;

/// P46: the holder of a range seals it, or the next version of its table.
pub fn seal(
    context: &mut Context<'_, '_, '_>,
    range: &Range,
    expected_version: u64,
    table: &NewTable,
    receipts: &[StorageReceipt],
) -> Result<Output, Error> {
    let key = range.key();
    let entry = context.overlay.get(&key)?;
    let Some((entry, holder)) = entry.as_ref().and_then(|entry| Some((entry, entry.record.holder.as_deref()?))) else {
        return Err(Error::rule(
            "not_in_range",
            format!("nobody holds the range of {} from {} of class {} in {}", range.size, range.base, range.class, range.city),
        ));
    };
    context.authorise_holder(&Holder::parse(holder)?)?;
    if entry.record.status != Status::Active {
        return Err(Error::rule("suspended", format!("the range is {}; only an active one is sealed", entry.record.status.name())));
    }
    check_version(entry, expected_version)?;
    let before = entry.record.table;
    if let Some(before) = before.filter(|before| table.count < before.count) {
        return Err(Error::rule(
            "bad_table",
            format!("a table of {} items after one of {}; a new version takes no item away", table.count, before.count),
        ));
    }
    check_receipts(context, range, expected_version, table, receipts)?;
    let sealed = Table {
        root: table.root,
        depth: if range.size == 1_000_000 { MILLION_DEPTH } else { THOUSAND_DEPTH },
        version: before.map_or(0, |before| before.version) + 1,
        height: context.overlay.height(),
        // Single items of the range may be in the table or not; from the second version on every change of an item made a new
        // version of the range, so that the receipts are of a table that has them all.
        overrides: u64::from(before.is_none() && entry.record.used),
        digest: table.digest,
        count: table.count,
    };
    context.overlay.update(&key, entry, |record| {
        record.children = Children::Table;
        record.table = Some(sealed);
    })?;
    Ok(Output::None)
}

/// P45: enough cities that are members and active say that they keep the table.
fn check_receipts(
    context: &mut Context<'_, '_, '_>,
    range: &Range,
    expected_version: u64,
    table: &NewTable,
    receipts: &[StorageReceipt],
) -> Result<(), Error> {
    let needed = context.parameters.receipts;
    if (receipts.len() as u64) < needed {
        return Err(Error::rule(
            "too_few_receipts",
            format!("{} storage receipts, {needed} are needed; ask more cities to keep the table", receipts.len()),
        ));
    }
    let height = context.overlay.height();
    let message = storage_receipt_message(context.genesis, range, expected_version, table);
    // Cities ascend, so none is counted twice.
    for receipt in receipts {
        let city = receipt.city;
        let refuse = |why: &str| Err(Error::rule("bad_receipt", format!("the storage receipt of {city} is refused: {why}")));
        let Some(member) = context.overlay.get(&MapKey::City(city))? else { return refuse("it is no member city") };
        if member.record.status != Status::Active {
            return refuse("the city is not active");
        }
        let signed = |key: &[u8; 32]| signature::verify(key, &message, &receipt.signature).is_ok();
        if !member.record.keys_for(Purpose::Checkpoint, height).any(signed) {
            return refuse("no checkpoint key of it signed this table for this version of the range");
        }
    }
    Ok(())
}

/// What an override asks for.
struct Wanted<'a> {
    holder: &'a Holder,
    category: &'a Category,
    item: &'a NewItem,
    expected_version: u64,
    code: Code,
}

/// What an item of a sealed range is now.
struct Present {
    /// The higher version of leaf and item record, of equal ones the record.
    entry: Option<Arc<Entry>>,
    /// Whether the item record is newer than any leaf, hence counted (P47).
    counted: bool,
}

/// P47: one item of a sealed range is registered or changed by an item record of its own.
pub fn override_item(
    context: &mut Context<'_, '_, '_>,
    holder: &Holder,
    category: &Category,
    item: &NewItem,
    expected_version: u64,
    proof: &TableProof,
) -> Result<Output, Error> {
    let range = range_of(context, holder.city, category.class, item.serial)?;
    let Some((range_key, range, table)) = range.and_then(|(key, range)| range.record.table.map(|table| (key, range, table))) else {
        return Err(Error::rule("not_sealed", format!("serial {} is in no sealed range; register or update it singly", item.serial)));
    };
    let code = Code::Item { city: holder.city, org: holder.org, category: *category, serial: item.serial };
    let wanted = Wanted { holder, category, item, expected_version, code };
    let key = MapKey::Item(holder.city, category.class, item.serial);
    let present = present(context, &key, &wanted, &table, proof)?;
    match &present.entry {
        None => {
            let record = new_item(context, &wanted, &range.record)?;
            context.overlay.put(&key, record)?;
        }
        Some(entry) => change_item(context, &key, entry, &wanted, &range.record)?,
    }
    // Also when nothing is counted: see `Item::change`.
    context.overlay.update(&range_key, &range, |record| {
        if let Some(table) = record.table.as_mut().filter(|_| !present.counted) {
            table.overrides += 1;
        }
    })?;
    Ok(Output::None)
}

/// Checks the proof and finds the present version of the item.
fn present(
    context: &mut Context<'_, '_, '_>,
    key: &MapKey<'_>,
    wanted: &Wanted<'_>,
    table: &Table,
    proof: &TableProof,
) -> Result<Present, Error> {
    let refuse = |error: Error| Error::rule("bad_proof", format!("the table proof of {} is refused: {error}", wanted.code));
    let size = if table.depth == MILLION_DEPTH { 1_000_000 } else { 1_000 };
    proof.verify(&table.root, table.depth, wanted.item.serial.get() % size).map_err(refuse)?;
    let leaf = match &proof.leaf {
        Some(leaf) => {
            let record = read_leaf(&leaf.record, wanted, table).map_err(refuse)?;
            Some(Arc::new(Entry { record, bytes: leaf.record.as_slice().into() }))
        }
        None => None,
    };
    let own = context.overlay.get(key)?;
    let counted = own.as_ref().is_some_and(|own| own.record.height > table.height);
    let entry = match (own, leaf) {
        (Some(own), Some(leaf)) if leaf.record.version > own.record.version => Some(leaf),
        (own, leaf) => own.or(leaf),
    };
    Ok(Present { entry, counted })
}

/// The record of a leaf, which must be one that the rule can go on from: nobody read it but those who signed for the table.
fn read_leaf(bytes: &[u8], wanted: &Wanted<'_>, table: &Table) -> Result<Record, Error> {
    let record = Record::decode(bytes)?;
    let named = Code::parse(record.code.as_deref().unwrap_or_default(), None)?;
    let place = |code: &Code| (code.city(), code.category().map(|category| category.class), code.serial());
    if record.kind != Kind::Item || place(&named) != place(&wanted.code) {
        return Err(Error::malformed("its leaf is no item of this serial"));
    }
    if record.height > table.height || record.version > MOST_VERSIONS {
        return Err(Error::malformed("its leaf has a height or a version that was not reached when the table was sealed"));
    }
    Ok(record)
}

fn new_item(context: &mut Context<'_, '_, '_>, wanted: &Wanted<'_>, range: &Record) -> Result<Record, Error> {
    let Wanted { holder, category, item, expected_version, code } = wanted;
    if *expected_version != 0 {
        return Err(Error::rule("unknown_code", format!("{code} is not registered; expect version 0 to register it")));
    }
    if range.holder.as_deref() != Some(holder.code().text().as_str()) {
        return Err(Error::rule("not_authorised", format!("the range of serial {} is not held by {}", item.serial, holder.code())));
    }
    context.authorise_holder(holder)?;
    check_category(context, holder, category)?;
    if range.status != Status::Active {
        return Err(Error::rule("suspended", format!("the range of serial {} is {}", item.serial, range.status.name())));
    }
    if !matches!(item.status, Status::Active | Status::Allocated) {
        return Err(Error::rule("bad_transition", format!("an item starts active or allocated, not {}", item.status.name())));
    }
    context.check_profile(&item.commitments, &item.services)?;
    let mut record = Record::new(Kind::Item, context.overlay.height());
    record.status = item.status;
    record.code = Some(code.text());
    record.commitments.clone_from(&item.commitments);
    record.services.clone_from(&item.services);
    Ok(record)
}

fn change_item(
    context: &mut Context<'_, '_, '_>,
    key: &MapKey<'_>,
    entry: &Entry,
    wanted: &Wanted<'_>,
    range: &Record,
) -> Result<(), Error> {
    let Wanted { item, expected_version, code, .. } = wanted;
    let present = &entry.record;
    if *expected_version == 0 {
        return Err(Error::rule("exists", format!("serial {} is registered already; name the version that you saw", item.serial)));
    }
    if present.code.as_deref() != Some(code.text().as_str()) {
        let registered = present.code.as_deref().unwrap_or_default();
        return Err(Error::rule("unknown_code", format!("{code} is not registered; that serial belongs to {registered}")));
    }
    let holder = holder_of(present, range)?;
    let city = Holder { city: wanted.holder.city, org: None };
    let administration = context.administration(city.city)?;
    let moves = item.status != present.status;
    // A city changes the status of what others hold, and nothing else.
    let only_status = moves && item.commitments == present.commitments && item.services == present.services;
    let by_city = (only_status || holder == city) && context.is_signed_by(&administration)?;
    if by_city && only_status {
        context.authorise(&administration)?;
    } else {
        context.authorise_holder(&holder)?;
    }
    if present.status == Status::Retired {
        return Err(Error::rule("retired", format!("{code} is retired; a retired code never changes again")));
    }
    check_version(entry, *expected_version)?;
    if moves {
        check_move(present, item.status, by_city)?;
    }
    context.check_profile(&item.commitments, &item.services)?;
    context.overlay.update(key, entry, |record| {
        record.commitments.clone_from(&item.commitments);
        record.services.clone_from(&item.services);
        if moves {
            set_in(record, item.status, by_city);
        }
    })
}

/// More versions than any record can reach, and few enough that going on from there never leaves the integers of P3.
const MOST_VERSIONS: u64 = 1 << 40;
