//! Operations in CBOR: what is signed and hashed.
use super::{
    native_code, range_size, Action, Change, Commitments, Holder, ItemUpdate, KeyProof, NewItem, NewTable, Operation, Range, Services,
    StorageReceipt, Target,
};
use super::{MAX_ALIAS, MAX_COMMITMENTS, MAX_ITEMS, MAX_KEY_ENTRIES, MAX_NAMESPACE, MAX_RECEIPTS, MAX_SERVICES};
use crate::code::{Category, City, Class, Code, Model, Org, Serial, Use};
use crate::error::Error;
use crate::hash::{Hash, Suite};
use crate::record::{decode_commitments, decode_services, Purpose, Status};
use crate::table::TableProof;
use crate::wire::{text_order, Decoder, Encoder, MAX_TEXT};

impl Operation {
    /// Writes the operation.
    pub fn encode(&self, out: &mut Encoder) {
        out.array(if self.basis.is_some() { 4 } else { 2 + usize::from(self.reason.is_some()) });
        match &self.action {
            Action::AdmitOrganisation { city, org, name, quota, rate, keys, commitments } => {
                out.uint(1).array(7).text(city.as_str()).text(org.as_str()).text(name).uint(*quota);
                encode_uint_or_null(out, *rate);
                encode_keys(out, keys);
                encode_commitments(out, commitments);
            }
            Action::AllocateRange { holder, class, size } => {
                out.uint(2).array(4);
                encode_holder(out, holder);
                out.text(class.as_str()).uint(*size);
            }
            Action::RegisterCategory { holder, category, name, schema } => {
                out.uint(3).array(5);
                encode_holder(out, holder);
                encode_category(out, category);
                out.text(name).bytes_or_null(schema.as_ref().map(|schema| &schema[..]));
            }
            Action::RegisterItems { holder, category, items } => {
                out.uint(4).array(4);
                encode_holder(out, holder);
                encode_category(out, category);
                out.array(items.len());
                for item in items {
                    encode_item(out, item);
                }
            }
            Action::UpdateItems { city, class, items } => {
                out.uint(5).array(3).text(city.as_str()).text(class.as_str()).array(items.len());
                for item in items {
                    out.array(4).uint(u64::from(item.serial.get())).uint(item.expected_version);
                    encode_commitments(out, &item.commitments);
                    encode_services(out, &item.services);
                }
            }
            Action::SetStatus { target, expected_version, status } => {
                out.uint(6).array(3);
                encode_target(out, target);
                out.uint(*expected_version).uint(status.number());
            }
            Action::RotateKeys { subject, expected_version, add, remove } => {
                out.uint(7).array(4).text(&subject.text()).uint(*expected_version);
                encode_keys(out, add);
                out.array(remove.len());
                for key in remove {
                    out.bytes(key);
                }
            }
            Action::SealRange { range, expected_version, table, receipts } => {
                out.uint(8).array(4);
                encode_range(out, range);
                out.uint(*expected_version).array(3).bytes(&table.root).bytes(&table.digest).uint(table.count);
                out.array(receipts.len());
                for receipt in receipts {
                    out.array(2).text(receipt.city.as_str()).bytes(&receipt.signature);
                }
            }
            Action::OverrideItem { holder, category, item, expected_version, proof } => {
                out.uint(9).array(6);
                encode_holder(out, holder);
                encode_category(out, category);
                encode_item(out, item);
                out.uint(*expected_version);
                proof.encode(out);
            }
            Action::ReserveRange { holder, range } => {
                out.uint(10).array(3);
                encode_holder(out, holder);
                encode_range(out, range);
            }
            Action::RegisterAliases { namespace, aliases } => {
                out.uint(11).array(2).text(namespace).array(aliases.len());
                for (alias, code) in aliases {
                    out.array(2).text(alias).text(&code.text());
                }
            }
            Action::MapDistrict { city, district } => {
                out.uint(12).array(2).text(city.as_str()).text(district.as_str());
            }
            Action::SetControllers { subject, expected_version, threshold } => {
                out.uint(13).array(3).text(&subject.text()).uint(*expected_version).uint(*threshold);
            }
            Action::UpdateProfile { subject, expected_version, commitments, services, schema } => {
                out.uint(14).array(5).text(&subject.text()).uint(*expected_version);
                encode_commitments(out, commitments);
                encode_services(out, services);
                out.bytes_or_null(schema.as_ref().map(|schema| &schema[..]));
            }
            Action::SetTerms { city, org, expected_version, name, quota, rate } => {
                out.uint(15).array(6).text(city.as_str()).text(org.as_str()).uint(*expected_version).text(name).uint(*quota);
                encode_uint_or_null(out, *rate);
            }
            Action::StartRecovery { subject, expected_version, keys } => {
                out.uint(16).array(3).text(&subject.text()).uint(*expected_version);
                encode_keys(out, keys);
            }
            Action::EndRecovery { subject, expected_version, cancel } => {
                out.uint(17).array(3).text(&subject.text()).uint(*expected_version).uint(u64::from(*cancel));
            }
            Action::OfferTransfer { target, expected_version, to } => {
                out.uint(18).array(3);
                encode_target(out, target);
                out.uint(*expected_version);
                match to {
                    Some(holder) => out.text(&holder.code().text()),
                    None => out.null(),
                };
            }
            Action::AcceptTransfer { target, expected_version } => {
                out.uint(19).array(2);
                encode_target(out, target);
                out.uint(*expected_version);
            }
            Action::Propose { city, change } => {
                out.uint(20).array(2).text(city.as_str());
                change.encode(out);
            }
            Action::Vote { city, proposal } => {
                out.uint(21).array(2).text(city.as_str()).uint(*proposal);
            }
            Action::WithdrawProposal { city, proposal } => {
                out.uint(22).array(2).text(city.as_str()).uint(*proposal);
            }
        }
        match (self.reason, &self.basis) {
            (reason, Some(basis)) => {
                match reason {
                    Some(reason) => out.uint(reason),
                    None => out.null(),
                };
                out.bytes(basis);
            }
            (Some(reason), None) => {
                out.uint(reason);
            }
            (None, None) => {}
        }
    }

    /// Reads an operation.
    pub fn decode(decoder: &mut Decoder<'_>) -> Result<Operation, Error> {
        let parts = decoder.array(4)?;
        if parts < 2 {
            return Err(Error::malformed("an operation is [kind, arguments], with reason and basis if it has them"));
        }
        let action = decode_action(decoder)?;
        let reason = match parts {
            2 => None,
            4 if decoder.null() => None,
            _ => Some(decoder.uint()?),
        };
        let basis = if parts == 4 { Some(decoder.hash()?) } else { None };
        Ok(Operation { action, reason, basis })
    }
}

fn encode_holder(out: &mut Encoder, holder: &Holder) {
    out.text(holder.city.as_str());
    match &holder.org {
        Some(org) => out.text(org.as_str()),
        None => out.null(),
    };
}

fn encode_uint_or_null(out: &mut Encoder, value: Option<u64>) {
    match value {
        Some(value) => out.uint(value),
        None => out.null(),
    };
}

fn encode_range(out: &mut Encoder, range: &Range) {
    out.array(4).text(range.city.as_str()).text(range.class.as_str()).uint(u64::from(range.base.get())).uint(range.size);
}

fn encode_target(out: &mut Encoder, target: &Target) {
    match target {
        Target::Code(code) => {
            out.text(&code.text());
        }
        Target::Range(range) => encode_range(out, range),
    }
}

fn encode_item(out: &mut Encoder, item: &NewItem) {
    out.array(4).uint(u64::from(item.serial.get())).uint(item.status.number());
    encode_commitments(out, &item.commitments);
    encode_services(out, &item.services);
}

fn encode_category(out: &mut Encoder, category: &Category) {
    out.array(3).text(category.use_.as_str()).text(category.class.as_str()).text(category.model.as_str());
}

pub(super) fn encode_keys(out: &mut Encoder, keys: &[KeyProof]) {
    out.array(keys.len());
    for key in keys {
        out.array(6).uint(Suite::Ed25519Sha256 as u64).uint(key.purpose as u64).bytes(&key.key).uint(key.from);
        encode_uint_or_null(out, key.until);
        out.bytes(&key.possession);
    }
}

fn encode_commitments(out: &mut Encoder, commitments: &Commitments) {
    if commitments.is_empty() {
        out.null();
        return;
    }
    out.map(commitments.len());
    for (name, commitment) in commitments {
        out.text(name).bytes(commitment);
    }
}

pub(super) fn encode_services(out: &mut Encoder, services: &Services) {
    if services.is_empty() {
        out.null();
        return;
    }
    out.array(services.len());
    for (kind, uri) in services {
        out.array(2).text(kind).text(uri);
    }
}

fn decode_action(decoder: &mut Decoder<'_>) -> Result<Action, Error> {
    let kind = decoder.uint()?;
    Ok(match kind {
        1 => {
            decoder.array_of(7)?;
            Action::AdmitOrganisation {
                city: City::parse(decoder.text(6)?)?,
                org: decode_org(decoder)?,
                name: decoder.text(MAX_TEXT)?.to_owned(),
                quota: decoder.uint()?,
                rate: optional_uint(decoder)?,
                keys: decode_keys(decoder)?,
                commitments: optional_commitments(decoder)?,
            }
        }
        2 => {
            decoder.array_of(4)?;
            let holder = decode_holder(decoder)?;
            Action::AllocateRange { holder, class: Class::parse(decoder.text(6)?)?, size: range_size(decoder.uint()?)? }
        }
        3 => {
            decoder.array_of(5)?;
            let holder = decode_holder(decoder)?;
            Action::RegisterCategory {
                holder,
                category: decode_category(decoder)?,
                name: decoder.text(MAX_TEXT)?.to_owned(),
                schema: optional_hash(decoder)?,
            }
        }
        4 => {
            decoder.array_of(4)?;
            let holder = decode_holder(decoder)?;
            let category = decode_category(decoder)?;
            let items = decode_items(decoder, |item: &NewItem| item.serial, |decoder| decode_item(decoder, 1))?;
            Action::RegisterItems { holder, category, items }
        }
        5 => {
            decoder.array_of(3)?;
            let city = City::parse(decoder.text(6)?)?;
            let class = Class::parse(decoder.text(6)?)?;
            let items = decode_items(
                decoder,
                |item: &ItemUpdate| item.serial,
                |decoder| {
                    decoder.array_of(4)?;
                    Ok(ItemUpdate {
                        serial: decode_serial(decoder)?,
                        expected_version: decoder.uint()?,
                        commitments: optional_commitments(decoder)?,
                        services: optional_services(decoder)?,
                    })
                },
            )?;
            Action::UpdateItems { city, class, items }
        }
        6 => {
            decoder.array_of(3)?;
            let target = decode_target(decoder)?;
            Action::SetStatus { target, expected_version: decoder.uint()?, status: Status::parse(decoder.uint()?)? }
        }
        7 => {
            decoder.array_of(4)?;
            let subject = decode_code(decoder)?;
            let expected_version = decoder.uint()?;
            let add = decode_keys(decoder)?;
            let count = decoder.list(MAX_KEY_ENTRIES, 34)?;
            let mut remove: Vec<[u8; 32]> = Vec::with_capacity(count);
            for _ in 0..count {
                let key = decoder.fixed()?;
                if remove.last().is_some_and(|last| *last >= key) {
                    return Err(Error::malformed("keys to remove that are repeated or not ascending"));
                }
                remove.push(key);
            }
            Action::RotateKeys { subject, expected_version, add, remove }
        }
        8 => {
            decoder.array_of(4)?;
            let range = decode_range(decoder)?;
            let expected_version = decoder.uint()?;
            decoder.array_of(3)?;
            let table = NewTable { root: decoder.hash()?, digest: decoder.hash()?, count: decoder.uint_to(range.size)? };
            let count = decoder.list(MAX_RECEIPTS, 74)?;
            let mut receipts: Vec<StorageReceipt> = Vec::with_capacity(count);
            for _ in 0..count {
                decoder.array_of(2)?;
                let receipt = StorageReceipt { city: City::parse(decoder.text(6)?)?, signature: decoder.fixed()? };
                if receipts.last().is_some_and(|last| last.city >= receipt.city) {
                    return Err(Error::malformed("storage receipts that are repeated or not ascending by city"));
                }
                receipts.push(receipt);
            }
            Action::SealRange { range, expected_version, table, receipts }
        }
        9 => {
            decoder.array_of(6)?;
            Action::OverrideItem {
                holder: decode_holder(decoder)?,
                category: decode_category(decoder)?,
                item: decode_item(decoder, 3)?,
                expected_version: decoder.uint()?,
                proof: TableProof::decode(decoder)?,
            }
        }
        10 => {
            decoder.array_of(3)?;
            let holder = decode_holder(decoder)?;
            let range = decode_range(decoder)?;
            if range.city != holder.city {
                return Err(Error::malformed("a range of another city than its holder's"));
            }
            Action::ReserveRange { holder, range }
        }
        11 => {
            decoder.array_of(2)?;
            let namespace = decoder.text(MAX_NAMESPACE)?.to_owned();
            let count = decoder.list(MAX_ITEMS, 12)?;
            if count == 0 {
                return Err(Error::malformed("an operation on aliases without aliases"));
            }
            let mut aliases: Vec<(String, Code)> = Vec::with_capacity(count);
            for _ in 0..count {
                decoder.array_of(2)?;
                let alias = decoder.text(MAX_ALIAS)?.to_owned();
                if aliases.last().is_some_and(|(last, _)| text_order(last, &alias).is_ge()) {
                    return Err(Error::malformed("aliases that are repeated or out of order"));
                }
                aliases.push((alias, decode_code(decoder)?));
            }
            Action::RegisterAliases { namespace, aliases }
        }
        12 => {
            decoder.array_of(2)?;
            Action::MapDistrict { city: City::parse(decoder.text(6)?)?, district: City::parse(decoder.text(6)?)? }
        }
        13 => {
            decoder.array_of(3)?;
            Action::SetControllers { subject: decode_code(decoder)?, expected_version: decoder.uint()?, threshold: decoder.uint()? }
        }
        14 => {
            decoder.array_of(5)?;
            Action::UpdateProfile {
                subject: decode_code(decoder)?,
                expected_version: decoder.uint()?,
                commitments: optional_commitments(decoder)?,
                services: optional_services(decoder)?,
                schema: optional_hash(decoder)?,
            }
        }
        15 => {
            decoder.array_of(6)?;
            Action::SetTerms {
                city: City::parse(decoder.text(6)?)?,
                org: decode_org(decoder)?,
                expected_version: decoder.uint()?,
                name: decoder.text(MAX_TEXT)?.to_owned(),
                quota: decoder.uint()?,
                rate: optional_uint(decoder)?,
            }
        }
        16 => {
            decoder.array_of(3)?;
            Action::StartRecovery { subject: decode_code(decoder)?, expected_version: decoder.uint()?, keys: decode_keys(decoder)? }
        }
        17 => {
            decoder.array_of(3)?;
            Action::EndRecovery { subject: decode_code(decoder)?, expected_version: decoder.uint()?, cancel: decoder.uint_to(1)? == 1 }
        }
        18 => {
            decoder.array_of(3)?;
            let target = decode_target(decoder)?;
            let expected_version = decoder.uint()?;
            let to = if decoder.null() { None } else { Some(exact_holder(decoder.text(MAX_TEXT)?)?) };
            Action::OfferTransfer { target, expected_version, to }
        }
        19 => {
            decoder.array_of(2)?;
            Action::AcceptTransfer { target: decode_target(decoder)?, expected_version: decoder.uint()? }
        }
        20 => {
            decoder.array_of(2)?;
            Action::Propose { city: City::parse(decoder.text(6)?)?, change: Change::decode(decoder)? }
        }
        21 => {
            decoder.array_of(2)?;
            Action::Vote { city: City::parse(decoder.text(6)?)?, proposal: decoder.uint()? }
        }
        22 => {
            decoder.array_of(2)?;
            Action::WithdrawProposal { city: City::parse(decoder.text(6)?)?, proposal: decoder.uint()? }
        }
        other => return Err(Error::malformed(format!("unknown operation {other}; this software knows 1 to 22, see docs/protocol.md"))),
    })
}

/// P1: one spelling. The fields' own parsers take lower case from people, and nobody would re-encode that to the same bytes.
fn exact<T: std::fmt::Display>(text: &str, parse: impl Fn(&str) -> Result<T, Error>) -> Result<T, Error> {
    let value = parse(text)?;
    if value.to_string() != text {
        return Err(Error::malformed(format!(
            "{text:?} is not in its canonical form {value:?}; write upper case",
            value = value.to_string()
        )));
    }
    Ok(value)
}

fn decode_org(decoder: &mut Decoder<'_>) -> Result<Org, Error> {
    exact(decoder.text(8)?, Org::parse)
}

fn decode_holder(decoder: &mut Decoder<'_>) -> Result<Holder, Error> {
    let city = City::parse(decoder.text(6)?)?;
    let org = if decoder.null() { None } else { Some(decode_org(decoder)?) };
    Ok(Holder { city, org })
}

fn decode_category(decoder: &mut Decoder<'_>) -> Result<Category, Error> {
    decoder.array_of(3)?;
    Ok(Category {
        use_: Use::parse(decoder.text(2)?)?,
        class: Class::parse(decoder.text(6)?)?,
        model: exact(decoder.text(8)?, Model::parse)?,
    })
}

fn decode_code(decoder: &mut Decoder<'_>) -> Result<Code, Error> {
    native_code(decoder.text(MAX_TEXT)?)
}

fn exact_holder(text: &str) -> Result<Holder, Error> {
    native_code(text)?;
    Holder::parse(text)
}

fn decode_range(decoder: &mut Decoder<'_>) -> Result<Range, Error> {
    decoder.array_of(4)?;
    let city = City::parse(decoder.text(6)?)?;
    let class = Class::parse(decoder.text(6)?)?;
    let base = decode_serial(decoder)?;
    Range::new(city, class, base, decoder.uint()?)
}

fn decode_target(decoder: &mut Decoder<'_>) -> Result<Target, Error> {
    if decoder.is_text() {
        Ok(Target::Code(decode_code(decoder)?))
    } else {
        Ok(Target::Range(decode_range(decoder)?))
    }
}

/// Reads an item whose status number is at most `most`: a new one is allocated or active.
fn decode_item(decoder: &mut Decoder<'_>, most: u64) -> Result<NewItem, Error> {
    decoder.array_of(4)?;
    Ok(NewItem {
        serial: decode_serial(decoder)?,
        status: Status::parse(decoder.uint_to(most)?)?,
        commitments: optional_commitments(decoder)?,
        services: optional_services(decoder)?,
    })
}

fn optional_uint(decoder: &mut Decoder<'_>) -> Result<Option<u64>, Error> {
    if decoder.null() {
        return Ok(None);
    }
    decoder.uint().map(Some)
}

fn optional_hash(decoder: &mut Decoder<'_>) -> Result<Option<Hash>, Error> {
    if decoder.null() {
        return Ok(None);
    }
    decoder.hash().map(Some)
}

pub(super) fn decode_keys(decoder: &mut Decoder<'_>) -> Result<Vec<KeyProof>, Error> {
    let count = decoder.list(MAX_KEY_ENTRIES, 105)?;
    let mut keys: Vec<KeyProof> = Vec::with_capacity(count);
    for _ in 0..count {
        decoder.array_of(6)?;
        Suite::parse(decoder.uint()?)?;
        let key = KeyProof {
            purpose: Purpose::parse(decoder.uint()?)?,
            key: decoder.fixed()?,
            from: decoder.uint()?,
            until: optional_uint(decoder)?,
            possession: decoder.fixed()?,
        };
        if keys.last().is_some_and(|last| (last.purpose, last.key) >= (key.purpose, key.key)) {
            return Err(Error::malformed("keys that are repeated or not ascending by purpose and key"));
        }
        keys.push(key);
    }
    Ok(keys)
}

fn optional_commitments(decoder: &mut Decoder<'_>) -> Result<Commitments, Error> {
    if decoder.null() {
        return Ok(Vec::new());
    }
    decode_commitments(decoder, MAX_COMMITMENTS)
}

pub(super) fn optional_services(decoder: &mut Decoder<'_>) -> Result<Services, Error> {
    if decoder.null() {
        return Ok(Vec::new());
    }
    decode_services(decoder, MAX_SERVICES)
}

fn decode_serial(decoder: &mut Decoder<'_>) -> Result<Serial, Error> {
    Serial::new(decoder.uint_to(u64::from(Serial::MAX.get()))? as u32)
}

/// Reads items that ascend by serial, at least one.
fn decode_items<T>(
    decoder: &mut Decoder<'_>,
    serial_of: impl Fn(&T) -> Serial,
    mut read: impl FnMut(&mut Decoder<'_>) -> Result<T, Error>,
) -> Result<Vec<T>, Error> {
    let count = decoder.list(MAX_ITEMS, 5)?;
    if count == 0 {
        return Err(Error::malformed("an operation on items without items"));
    }
    let mut items: Vec<T> = Vec::with_capacity(count);
    for _ in 0..count {
        let item = read(decoder)?;
        if items.last().is_some_and(|last| serial_of(last) >= serial_of(&item)) {
            return Err(Error::malformed("items that are repeated or not ascending by serial"));
        }
        items.push(item);
    }
    Ok(items)
}
