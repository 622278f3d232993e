//! Operations (P21 to P28): what a transaction asks for, in CBOR and in the JSON that tools use.
//!
//! Reading checks form only: lengths, digits, order, absolute limits. Whether the rule allows an operation is asked when it is
//! executed, against the state of that moment.
use crate::code::{Category, City, Class, Code, Model, Org, Serial, Use};
use crate::error::Error;
use crate::hash::{domain, hex, Hash, Suite, Tag};
use crate::json::{self, Object};
use crate::record::{decode_commitments, decode_services, Purpose, Status};
use crate::wire::{text_order, Decoder, Encoder, MAX_TEXT};
use serde_json::{json, Map, Value};

/// The most items that any network may allow in a transaction.
pub const MAX_ITEMS: usize = 10_000;
/// The most key entries of one operation.
pub const MAX_KEY_ENTRIES: usize = 16;
const MAX_SERVICES: usize = 64;
const MAX_COMMITMENTS: usize = 256;

/// Commitments by attribute name.
pub type Commitments = Vec<(String, Hash)>;
/// `[type, uri]` pairs.
pub type Services = Vec<(String, String)>;

/// A city, or an organisation of a city: who can hold ranges and sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Holder {
    /// The city.
    pub city: City,
    /// The organisation; none when the city itself is meant.
    pub org: Option<Org>,
}

impl Holder {
    /// Reads a holder code such as `MA.156.130100.A7K2`.
    pub fn parse(text: &str) -> Result<Holder, Error> {
        match Code::parse(text, None)? {
            Code::City { city } => Ok(Holder { city, org: None }),
            Code::Org { city, org } => Ok(Holder { city, org: Some(org) }),
            _ => Err(Error::malformed(format!("{text:?} is not the code of a city or an organisation, such as MA.156.130100.A7K2"))),
        }
    }

    /// The holder code.
    pub fn code(&self) -> Code {
        match self.org {
            Some(org) => Code::Org { city: self.city, org },
            None => Code::City { city: self.city },
        }
    }
}

/// A key that is registered, with its proof of possession (P16).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyProof {
    /// What it will be used for.
    pub purpose: Purpose,
    /// The public key.
    pub key: [u8; 32],
    /// Signature by the key over [`possession_message`].
    pub possession: [u8; 64],
}

/// What the holder of a new key signs to show that it has the private half (P16).
pub fn possession_message(genesis: &Hash, subject: &Holder, purpose: Purpose, key: &[u8; 32]) -> Vec<u8> {
    let mut message = domain(Tag::Possession, Suite::Ed25519Sha256);
    message.extend_from_slice(genesis);
    message.push(purpose as u8);
    message.extend_from_slice(key);
    message.extend_from_slice(subject.code().text().as_bytes());
    message
}

/// An item to register.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewItem {
    /// Its serial in (city, class).
    pub serial: Serial,
    /// Active or allocated.
    pub status: Status,
    /// Salted commitments.
    pub commitments: Commitments,
    /// Services.
    pub services: Services,
}

/// An item to change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ItemUpdate {
    /// Its serial in (city, class).
    pub serial: Serial,
    /// The version that the submitter saw.
    pub expected_version: u64,
    /// All commitments from now on.
    pub commitments: Commitments,
    /// All services from now on.
    pub services: Services,
}

/// Whose status is set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// An organisation, a category or an item.
    Code(Code),
    /// A range.
    Range {
        /// The city.
        city: City,
        /// The class.
        class: Class,
        /// Its first serial.
        base: Serial,
        /// 1,000 or 1,000,000.
        size: u64,
    },
}

/// What an operation does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// P22.
    AdmitOrganisation {
        /// The admitting city.
        city: City,
        /// Its code within the city.
        org: Org,
        /// Its name.
        name: String,
        /// Serials that it may hold in each class.
        quota: u64,
        /// Its keys.
        keys: Vec<KeyProof>,
        /// Commitments of its profile.
        commitments: Commitments,
    },
    /// P23.
    AllocateRange {
        /// Who gets it.
        holder: Holder,
        /// The class.
        class: Class,
        /// 1,000 or 1,000,000.
        size: u64,
    },
    /// P24.
    RegisterCategory {
        /// Whose category.
        holder: Holder,
        /// Use, class and model.
        category: Category,
        /// Its name.
        name: String,
    },
    /// P25.
    RegisterItems {
        /// Who registers.
        holder: Holder,
        /// Use, class and model.
        category: Category,
        /// The items, ascending by serial.
        items: Vec<NewItem>,
    },
    /// P26.
    UpdateItems {
        /// The city.
        city: City,
        /// The class.
        class: Class,
        /// The items, ascending by serial.
        items: Vec<ItemUpdate>,
    },
    /// P27.
    SetStatus {
        /// Whose.
        target: Target,
        /// The version that the submitter saw.
        expected_version: u64,
        /// The new status.
        status: Status,
    },
    /// P28.
    RotateKeys {
        /// Whose keys.
        subject: Holder,
        /// The version that the submitter saw.
        expected_version: u64,
        /// Keys to add.
        add: Vec<KeyProof>,
        /// Keys to remove.
        remove: Vec<[u8; 32]>,
    },
}

/// An operation with its ground.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// What it does.
    pub action: Action,
    /// Why, as a code.
    pub reason: Option<u64>,
    /// Digest of the decision document.
    pub basis: Option<Hash>,
}

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

    /// The keys that the operation registers, and for whom.
    pub fn new_keys(&self) -> (Option<Holder>, &[KeyProof]) {
        match &self.action {
            Action::AdmitOrganisation { city, org, keys, .. } => (Some(Holder { city: *city, org: Some(*org) }), keys),
            Action::RotateKeys { subject, add, .. } => (Some(*subject), add),
            _ => (None, &[]),
        }
    }

    /// How many items it touches.
    pub fn items(&self) -> usize {
        match &self.action {
            Action::RegisterItems { items, .. } => items.len(),
            Action::UpdateItems { items, .. } => items.len(),
            _ => 0,
        }
    }

    /// The JSON form (P22 to P28).
    pub fn to_json(&self) -> Value {
        let mut value = action_json(&self.action);
        if let Value::Object(fields) = &mut value {
            if let Some(reason) = self.reason {
                fields.insert("reason".to_owned(), json!(reason));
            }
            if let Some(basis) = &self.basis {
                fields.insert("basis".to_owned(), json!(hex(basis)));
            }
        }
        value
    }

    /// Reads the JSON form.
    pub fn from_json(value: Value) -> Result<Operation, Error> {
        let mut object = Object::new(value, "an operation")?;
        let reason = object.optional_uint("reason")?;
        let basis = object.optional_text("basis")?.map(|text| json::fixed_hex(&text)).transpose()?;
        let action = action_from_json(&mut object)?;
        object.end()?;
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

fn decode_holder(decoder: &mut Decoder<'_>) -> Result<Holder, Error> {
    let city = City::parse(decoder.text(6)?)?;
    let org = if decoder.null() { None } else { Some(Org::parse(decoder.text(8)?)?) };
    Ok(Holder { city, org })
}

fn decode_category(decoder: &mut Decoder<'_>) -> Result<Category, Error> {
    decoder.array_of(3)?;
    Ok(Category { use_: Use::parse(decoder.text(2)?)?, class: Class::parse(decoder.text(6)?)?, model: Model::parse(decoder.text(8)?)? })
}

fn decode_keys(decoder: &mut Decoder<'_>) -> Result<Vec<KeyProof>, Error> {
    let count = decoder.array(MAX_KEY_ENTRIES)?;
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
    let count = decoder.array(MAX_ITEMS)?;
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

fn range_size(size: u64) -> Result<u64, Error> {
    if size != 1_000 && size != 1_000_000 {
        return Err(Error::malformed(format!("a range of {size}; ranges have 1000 or 1000000 serials")));
    }
    Ok(size)
}

fn range_target(city: City, class: Class, base: Serial, size: u64) -> Result<Target, Error> {
    if u64::from(base.get()) % range_size(size)? != 0 {
        return Err(Error::malformed(format!("a range of {size} does not start at {base}; its first serial is a multiple of its size")));
    }
    Ok(Target::Range { city, class, base, size })
}

fn code_target(text: &str) -> Result<Target, Error> {
    let code = Code::parse(text, None)?;
    if matches!(code, Code::Foreign(_)) || code.text() != text {
        return Err(Error::malformed(format!("{text:?} is not a canonical native code")));
    }
    Ok(Target::Code(code))
}

fn decode_action(decoder: &mut Decoder<'_>) -> Result<Action, Error> {
    let kind = decoder.uint()?;
    Ok(match kind {
        1 => {
            decoder.array_of(6)?;
            Action::AdmitOrganisation {
                city: City::parse(decoder.text(6)?)?,
                org: Org::parse(decoder.text(8)?)?,
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
            let count = decoder.array(MAX_KEY_ENTRIES)?;
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

fn keys_json(keys: &[KeyProof]) -> Value {
    keys.iter().map(|key| json!({"purpose": key.purpose.name(), "key": hex(&key.key), "possession": hex(&key.possession)})).collect()
}

pub(crate) fn commitments_json(commitments: &Commitments) -> Value {
    commitments.iter().map(|(name, commitment)| (name.clone(), json!(hex(commitment)))).collect::<Map<_, _>>().into()
}

pub(crate) fn services_json(services: &Services) -> Value {
    services.iter().map(|(kind, uri)| json!([kind, uri])).collect()
}

fn action_json(action: &Action) -> Value {
    let org = |holder: &Holder| holder.org.as_ref().map(|org| org.as_str().to_owned());
    match action {
        Action::AdmitOrganisation { city, org, name, quota, keys, commitments } => json!({
            "op": "admit_organisation", "city": city.as_str(), "org": org.as_str(), "name": name, "quota": quota,
            "keys": keys_json(keys), "commitments": commitments_json(commitments),
        }),
        Action::AllocateRange { holder, class, size } => {
            json!({"op": "allocate_range", "city": holder.city.as_str(), "org": org(holder), "class": class.as_str(), "size": size})
        }
        Action::RegisterCategory { holder, category, name } => json!({
            "op": "register_category", "city": holder.city.as_str(), "org": org(holder), "use": category.use_.as_str(),
            "class": category.class.as_str(), "model": category.model.as_str(), "name": name,
        }),
        Action::RegisterItems { holder, category, items } => {
            let items: Vec<Value> = items
                .iter()
                .map(|item| {
                    json!({"serial": item.serial.get(), "status": item.status.name(), "commitments": commitments_json(&item.commitments), "services": services_json(&item.services)})
                })
                .collect();
            json!({
                "op": "register_items", "city": holder.city.as_str(), "org": org(holder), "use": category.use_.as_str(),
                "class": category.class.as_str(), "model": category.model.as_str(), "items": items,
            })
        }
        Action::UpdateItems { city, class, items } => {
            let items: Vec<Value> = items
                .iter()
                .map(|item| {
                    json!({"serial": item.serial.get(), "expected_version": item.expected_version, "commitments": commitments_json(&item.commitments), "services": services_json(&item.services)})
                })
                .collect();
            json!({"op": "update_items", "city": city.as_str(), "class": class.as_str(), "items": items})
        }
        Action::SetStatus { target, expected_version, status } => match target {
            Target::Code(code) => {
                json!({"op": "set_status", "code": code.text(), "expected_version": expected_version, "status": status.name()})
            }
            Target::Range { city, class, base, size } => json!({
                "op": "set_status", "range": {"city": city.as_str(), "class": class.as_str(), "base": base.get(), "size": size},
                "expected_version": expected_version, "status": status.name(),
            }),
        },
        Action::RotateKeys { subject, expected_version, add, remove } => json!({
            "op": "rotate_keys", "code": subject.code().text(), "expected_version": expected_version, "add": keys_json(add),
            "remove": remove.iter().map(|key| hex(key)).collect::<Vec<_>>(),
        }),
    }
}

fn holder_from_json(object: &mut Object) -> Result<Holder, Error> {
    let city = City::parse(&object.text("city")?)?;
    Ok(Holder { city, org: object.optional_text("org")?.map(|org| Org::parse(&org)).transpose()? })
}

fn category_from_json(object: &mut Object) -> Result<Category, Error> {
    Ok(Category {
        use_: Use::parse(&object.text("use")?)?,
        class: Class::parse(&object.text("class")?)?,
        model: Model::parse(&object.text("model")?)?,
    })
}

fn keys_from_json(object: &mut Object, name: &str) -> Result<Vec<KeyProof>, Error> {
    let mut keys = Vec::new();
    for mut key in object.objects(name, MAX_KEY_ENTRIES)? {
        keys.push(KeyProof {
            purpose: Purpose::from_name(&key.text("purpose")?)?,
            key: json::fixed_hex(&key.text("key")?)?,
            possession: json::fixed_hex(&key.text("possession")?)?,
        });
        key.end()?;
    }
    keys.sort_unstable_by_key(|key| (key.purpose, key.key));
    Ok(keys)
}

fn commitments_from_json(object: &mut Object) -> Result<Commitments, Error> {
    let Some(given) = object.optional_object("commitments")? else { return Ok(Vec::new()) };
    let mut commitments = Vec::new();
    for (name, value) in given.into_fields() {
        let text = value.as_str().ok_or_else(|| Error::malformed(format!("commitment {name:?} must be hexadecimal text")))?;
        if name.len() > 64 {
            return Err(Error::malformed(format!("attribute name {name:?} is longer than 64 bytes")));
        }
        commitments.push((name, json::fixed_hex(text)?));
    }
    if commitments.len() > MAX_COMMITMENTS {
        return Err(Error::malformed(format!("{} commitments, more than the limit of {MAX_COMMITMENTS}", commitments.len())));
    }
    commitments.sort_unstable_by(|left, right| text_order(&left.0, &right.0));
    Ok(commitments)
}

fn services_from_json(object: &mut Object) -> Result<Services, Error> {
    let mut services = Vec::new();
    for value in object.optional_list("services", MAX_SERVICES)? {
        match value.as_array().map(Vec::as_slice) {
            Some([Value::String(kind), Value::String(uri)]) if kind.len() <= 64 && uri.len() <= MAX_TEXT => {
                services.push((kind.clone(), uri.clone()))
            }
            _ => return Err(Error::malformed("a service must be [type, uri], two texts of at most 64 and 255 bytes")),
        }
    }
    Ok(services)
}

fn items_from_json<T>(
    object: &mut Object,
    read: impl Fn(&mut Object, Serial) -> Result<T, Error>,
    serial_of: impl Fn(&T) -> Serial,
) -> Result<Vec<T>, Error> {
    let mut items = Vec::new();
    for mut item in object.objects("items", MAX_ITEMS)? {
        let serial = Serial::new(u32::try_from(item.uint("serial")?).unwrap_or(u32::MAX))?;
        items.push(read(&mut item, serial)?);
        item.end()?;
    }
    items.sort_by_key(&serial_of);
    if items.is_empty() || items.windows(2).any(|pair| serial_of(&pair[0]) == serial_of(&pair[1])) {
        return Err(Error::malformed("items must be at least one, and every serial once"));
    }
    Ok(items)
}

fn status_from_name(name: &str) -> Result<Status, Error> {
    [Status::Allocated, Status::Active, Status::Suspended, Status::Retired]
        .into_iter()
        .find(|status| status.name() == name)
        .ok_or_else(|| Error::malformed(format!("unknown status {name:?}; known: allocated, active, suspended, retired")))
}

fn name_from_json(object: &mut Object) -> Result<String, Error> {
    let name = object.text("name")?;
    if name.is_empty() || name.len() > MAX_TEXT {
        return Err(Error::malformed(format!("a name of {} bytes; it takes 1 to {MAX_TEXT}", name.len())));
    }
    Ok(name)
}

fn action_from_json(object: &mut Object) -> Result<Action, Error> {
    let op = object.text("op")?;
    Ok(match op.as_str() {
        "admit_organisation" => Action::AdmitOrganisation {
            city: City::parse(&object.text("city")?)?,
            org: Org::parse(&object.text("org")?)?,
            name: name_from_json(object)?,
            quota: object.uint("quota")?,
            keys: keys_from_json(object, "keys")?,
            commitments: commitments_from_json(object)?,
        },
        "allocate_range" => Action::AllocateRange {
            holder: holder_from_json(object)?,
            class: Class::parse(&object.text("class")?)?,
            size: range_size(object.uint("size")?)?,
        },
        "register_category" => Action::RegisterCategory {
            holder: holder_from_json(object)?,
            category: category_from_json(object)?,
            name: name_from_json(object)?,
        },
        "register_items" => Action::RegisterItems {
            holder: holder_from_json(object)?,
            category: category_from_json(object)?,
            items: items_from_json(
                object,
                |item, serial| {
                    let status = match item.optional_text("status")?.as_deref() {
                        None | Some("active") => Status::Active,
                        Some("allocated") => Status::Allocated,
                        Some(other) => return Err(Error::malformed(format!("an item starts active or allocated, not {other:?}"))),
                    };
                    Ok(NewItem { serial, status, commitments: commitments_from_json(item)?, services: services_from_json(item)? })
                },
                |item| item.serial,
            )?,
        },
        "update_items" => Action::UpdateItems {
            city: City::parse(&object.text("city")?)?,
            class: Class::parse(&object.text("class")?)?,
            items: items_from_json(
                object,
                |item, serial| {
                    Ok(ItemUpdate {
                        serial,
                        expected_version: item.uint("expected_version")?,
                        commitments: commitments_from_json(item)?,
                        services: services_from_json(item)?,
                    })
                },
                |item| item.serial,
            )?,
        },
        "set_status" => {
            let target = match object.optional_text("code")? {
                Some(code) => code_target(&code)?,
                None => {
                    let mut range = object.object("range")?;
                    let city = City::parse(&range.text("city")?)?;
                    let class = Class::parse(&range.text("class")?)?;
                    let base = Serial::new(u32::try_from(range.uint("base")?).unwrap_or(u32::MAX))?;
                    let target = range_target(city, class, base, range.uint("size")?)?;
                    range.end()?;
                    target
                }
            };
            Action::SetStatus {
                target,
                expected_version: object.uint("expected_version")?,
                status: status_from_name(&object.text("status")?)?,
            }
        }
        "rotate_keys" => {
            let mut remove: Vec<[u8; 32]> =
                object.texts("remove", MAX_KEY_ENTRIES)?.iter().map(|key| json::fixed_hex(key)).collect::<Result<_, _>>()?;
            remove.sort_unstable();
            Action::RotateKeys {
                subject: Holder::parse(&object.text("code")?)?,
                expected_version: object.uint("expected_version")?,
                add: keys_from_json(object, "add")?,
                remove,
            }
        }
        other => return Err(Error::malformed(format!("unknown operation {other:?}; see docs/protocol.md, lines P22 to P28"))),
    })
}
