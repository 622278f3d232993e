//! Operations in JSON, as tools write and people read them. Nothing here is hashed.
use super::{
    code_target, range_size, range_target, Action, Commitments, Holder, ItemUpdate, KeyProof, NewItem, Operation, Services, Target,
};
use super::{MAX_COMMITMENTS, MAX_ITEMS, MAX_KEY_ENTRIES, MAX_SERVICES};
use crate::code::{Category, City, Class, Model, Org, Serial, Use};
use crate::error::Error;
use crate::hash::hex;
use crate::json::{self, Object};
use crate::profile::name_fault;
use crate::record::{Purpose, Status};
use crate::wire::{text_order, MAX_TEXT};
use serde_json::{json, Map, Value};

impl Operation {
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

fn keys_json(keys: &[KeyProof]) -> Value {
    keys.iter().map(|key| json!({"purpose": key.purpose.name(), "key": hex(&key.key), "possession": hex(&key.possession)})).collect()
}

pub(crate) fn commitments_json(commitments: &Commitments) -> Value {
    commitments.iter().map(|(name, commitment)| (name.clone(), json!(hex(commitment)))).collect::<Map<_, _>>().into()
}

pub(crate) fn services_json(services: &Services) -> Value {
    services.iter().map(|(kind, uri)| json!([kind, uri])).collect()
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
    match name_fault(&name) {
        Some(fault) => Err(Error::malformed(format!("the name {name:?} is refused: {fault}"))),
        None => Ok(name),
    }
}
