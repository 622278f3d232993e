//! Operations in CBOR: what is signed and hashed.
use super::{
    code_target, range_size, range_target, Action, Commitments, Holder, ItemUpdate, KeyProof, NewItem, Operation, Services, Target,
};
use super::{MAX_COMMITMENTS, MAX_ITEMS, MAX_KEY_ENTRIES, MAX_SERVICES};
use crate::code::{Category, City, Class, Model, Org, Serial, Use};
use crate::error::Error;
use crate::hash::Suite;
use crate::record::{decode_commitments, decode_services, Purpose, Status};
use crate::wire::{Decoder, Encoder, MAX_TEXT};

impl Operation {
    /// Writes the operation.
    pub fn encode(&self, out: &mut Encoder) {
        out.array(if self.basis.is_some() { 4 } else { 2 + usize::from(self.reason.is_some()) });
        match &self.action {
            Action::AdmitOrganisation { city, org, name, quota, keys, commitments } => {
                out.uint(1).array(6).text(city.as_str()).text(org.as_str()).text(name).uint(*quota);
                encode_keys(out, keys);
                encode_commitments(out, commitments);
            }
            Action::AllocateRange { holder, class, size } => {
                out.uint(2).array(4);
                encode_holder(out, holder);
                out.text(class.as_str()).uint(*size);
            }
            Action::RegisterCategory { holder, category, name } => {
                out.uint(3).array(4);
                encode_holder(out, holder);
                encode_category(out, category);
                out.text(name);
            }
            Action::RegisterItems { holder, category, items } => {
                out.uint(4).array(4);
                encode_holder(out, holder);
                encode_category(out, category);
                out.array(items.len());
                for item in items {
                    out.array(4).uint(u64::from(item.serial.get())).uint(u64::from(item.status == Status::Active));
                    encode_commitments(out, &item.commitments);
                    encode_services(out, &item.services);
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
                match target {
                    Target::Code(code) => out.text(&code.text()),
                    Target::Range { city, class, base, size } => {
                        out.array(4).text(city.as_str()).text(class.as_str()).uint(u64::from(base.get())).uint(*size)
                    }
                };
                out.uint(*expected_version).uint(status.number());
            }
            Action::RotateKeys { subject, expected_version, add, remove } => {
                out.uint(7).array(5);
                encode_holder(out, subject);
                out.uint(*expected_version);
                encode_keys(out, add);
                out.array(remove.len());
                for key in remove {
                    out.bytes(key);
                }
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

fn encode_category(out: &mut Encoder, category: &Category) {
    out.array(3).text(category.use_.as_str()).text(category.class.as_str()).text(category.model.as_str());
}

fn encode_keys(out: &mut Encoder, keys: &[KeyProof]) {
    out.array(keys.len());
    for key in keys {
        out.array(4).uint(Suite::Ed25519Sha256 as u64).uint(key.purpose as u64).bytes(&key.key).bytes(&key.possession);
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

fn encode_services(out: &mut Encoder, services: &Services) {
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
            decoder.array_of(6)?;
            Action::AdmitOrganisation {
                city: City::parse(decoder.text(6)?)?,
                org: decode_org(decoder)?,
                name: decoder.text(MAX_TEXT)?.to_owned(),
                quota: decoder.uint()?,
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
            decoder.array_of(4)?;
            let holder = decode_holder(decoder)?;
            Action::RegisterCategory { holder, category: decode_category(decoder)?, name: decoder.text(MAX_TEXT)?.to_owned() }
        }
        4 => {
            decoder.array_of(4)?;
            let holder = decode_holder(decoder)?;
            let category = decode_category(decoder)?;
            let items = decode_items(
                decoder,
                |item: &NewItem| item.serial,
                |decoder| {
                    Ok(NewItem {
                        serial: decode_serial(decoder)?,
                        status: Status::parse(decoder.uint_to(1)?)?,
                        commitments: optional_commitments(decoder)?,
                        services: optional_services(decoder)?,
                    })
                },
            )?;
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
            let target = if decoder.is_text() {
                code_target(decoder.text(MAX_TEXT)?)?
            } else {
                decoder.array_of(4)?;
                let city = City::parse(decoder.text(6)?)?;
                let class = Class::parse(decoder.text(6)?)?;
                let base = decode_serial(decoder)?;
                range_target(city, class, base, decoder.uint()?)?
            };
            Action::SetStatus { target, expected_version: decoder.uint()?, status: Status::parse(decoder.uint()?)? }
        }
        7 => {
            decoder.array_of(5)?;
            let subject = decode_holder(decoder)?;
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
        other => return Err(Error::malformed(format!("unknown operation {other}; this software knows 1 to 7, see docs/protocol.md"))),
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

fn decode_keys(decoder: &mut Decoder<'_>) -> Result<Vec<KeyProof>, Error> {
    let count = decoder.list(MAX_KEY_ENTRIES, 103)?;
    let mut keys: Vec<KeyProof> = Vec::with_capacity(count);
    for _ in 0..count {
        decoder.array_of(4)?;
        Suite::parse(decoder.uint()?)?;
        let key = KeyProof { purpose: Purpose::parse(decoder.uint()?)?, key: decoder.fixed()?, possession: decoder.fixed()? };
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

fn optional_services(decoder: &mut Decoder<'_>) -> Result<Services, Error> {
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
        decoder.array_of(4)?;
        let item = read(decoder)?;
        if items.last().is_some_and(|last| serial_of(last) >= serial_of(&item)) {
            return Err(Error::malformed("items that are repeated or not ascending by serial"));
        }
        items.push(item);
    }
    Ok(items)
}
