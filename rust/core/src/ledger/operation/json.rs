//! Operations in JSON, as tools write and people read them. Nothing here is hashed.
use super::columns::{aliases_in_order, commitments_in_order, in_order};
use super::{
    native_code, range_size, Action, Change, Commitments, Holder, ItemUpdate, KeyProof, NewItem, NewTable, Operation, Range, Services,
    StorageReceipt, Target,
};
use super::{MAX_ITEMS, MAX_KEY_ENTRIES, MAX_RECEIPTS, MAX_SERVICES};
use crate::code::{Category, City, Class, Model, Org, Serial, Use};
use crate::error::Error;
use crate::hash::{hex, Hash};
use crate::json::{self, Object};
use crate::profile::name_fault;
use crate::record::{Purpose, Status};
use crate::table::TableProof;
use crate::wire::{Decoder, Encoder, MAX_TEXT};
use serde_json::{json, Map, Value};

impl Operation {
    /// The JSON form (P22 to P28, P46 to P60).
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
        Action::AdmitOrganisation { city, org, name, quota, rate, keys, commitments } => json!({
            "op": "admit_organisation", "city": city.as_str(), "org": org.as_str(), "name": name, "quota": quota, "rate": rate,
            "keys": keys_json(keys), "commitments": commitments_json(commitments),
        }),
        Action::AllocateRange { holder, class, size } => {
            json!({"op": "allocate_range", "city": holder.city.as_str(), "org": org(holder), "class": class.as_str(), "size": size})
        }
        Action::RegisterCategory { holder, category, name, schema } => json!({
            "op": "register_category", "city": holder.city.as_str(), "org": org(holder), "use": category.use_.as_str(),
            "class": category.class.as_str(), "model": category.model.as_str(), "name": name,
            "schema": schema.as_ref().map(|schema| hex(schema)),
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
        Action::SetStatus { target, expected_version, status } => {
            with_target(json!({"op": "set_status", "expected_version": expected_version, "status": status.name()}), target)
        }
        Action::RotateKeys { subject, expected_version, add, remove } => json!({
            "op": "rotate_keys", "code": subject.text(), "expected_version": expected_version, "add": keys_json(add),
            "remove": remove.iter().map(|key| hex(key)).collect::<Vec<_>>(),
        }),
        Action::SealRange { range, expected_version, table, receipts } => {
            let receipts: Vec<Value> =
                receipts.iter().map(|receipt| json!({"city": receipt.city.as_str(), "signature": hex(&receipt.signature)})).collect();
            json!({
                "op": "seal_range", "range": range_json(range), "expected_version": expected_version,
                "table": {"root": hex(&table.root), "digest": hex(&table.digest), "count": table.count}, "receipts": receipts,
            })
        }
        Action::OverrideItem { holder, category, item, expected_version, proof } => {
            let mut encoded = Encoder::with_capacity(1_024);
            proof.encode(&mut encoded);
            json!({
                "op": "override_item", "city": holder.city.as_str(), "org": org(holder), "use": category.use_.as_str(),
                "class": category.class.as_str(), "model": category.model.as_str(), "serial": item.serial.get(),
                "expected_version": expected_version, "status": item.status.name(), "commitments": commitments_json(&item.commitments),
                "services": services_json(&item.services), "proof": hex(&encoded.finish()),
            })
        }
        Action::ReserveRange { holder, range } => json!({
            "op": "reserve_range", "city": holder.city.as_str(), "org": org(holder), "class": range.class.as_str(),
            "base": range.base.get(), "size": range.size,
        }),
        Action::RegisterAliases { namespace, aliases } => {
            let aliases: Vec<Value> = aliases.iter().map(|(alias, code)| json!({"alias": alias, "code": code.text()})).collect();
            json!({"op": "register_aliases", "namespace": namespace, "aliases": aliases})
        }
        Action::MapDistrict { city, district } => {
            json!({"op": "map_district", "city": city.as_str(), "district": district.as_str()})
        }
        Action::SetControllers { subject, expected_version, threshold } => json!({
            "op": "set_controllers", "code": subject.text(), "expected_version": expected_version, "threshold": threshold,
        }),
        Action::UpdateProfile { subject, expected_version, commitments, services, schema } => json!({
            "op": "update_profile", "code": subject.text(), "expected_version": expected_version,
            "commitments": commitments_json(commitments), "services": services_json(services),
            "schema": schema.as_ref().map(|schema| hex(schema)),
        }),
        Action::SetTerms { city, org, expected_version, name, quota, rate } => json!({
            "op": "set_terms", "city": city.as_str(), "org": org.as_str(), "expected_version": expected_version, "name": name,
            "quota": quota, "rate": rate,
        }),
        Action::StartRecovery { subject, expected_version, keys } => json!({
            "op": "start_recovery", "code": subject.text(), "expected_version": expected_version, "keys": keys_json(keys),
        }),
        Action::EndRecovery { subject, expected_version, cancel } => json!({
            "op": "end_recovery", "code": subject.text(), "expected_version": expected_version, "cancel": cancel,
        }),
        Action::OfferTransfer { target, expected_version, to } => with_target(
            json!({"op": "offer_transfer", "expected_version": expected_version, "to": to.map(|holder| holder.code().text())}),
            target,
        ),
        Action::AcceptTransfer { target, expected_version } => {
            with_target(json!({"op": "accept_transfer", "expected_version": expected_version}), target)
        }
        Action::Propose { city, change } => json!({"op": "propose", "city": city.as_str(), "change": change.to_json()}),
        Action::Vote { city, proposal } => json!({"op": "vote", "city": city.as_str(), "proposal": proposal}),
        Action::WithdrawProposal { city, proposal } => {
            json!({"op": "withdraw_proposal", "city": city.as_str(), "proposal": proposal})
        }
    }
}

pub(super) fn keys_json(keys: &[KeyProof]) -> Value {
    keys.iter()
        .map(|key| {
            json!({
                "purpose": key.purpose.name(), "key": hex(&key.key), "from": key.from, "until": key.until,
                "possession": hex(&key.possession),
            })
        })
        .collect()
}

fn range_json(range: &Range) -> Value {
    json!({"city": range.city.as_str(), "class": range.class.as_str(), "base": range.base.get(), "size": range.size})
}

fn with_target(mut value: Value, target: &Target) -> Value {
    match target {
        Target::Code(code) => value["code"] = json!(code.text()),
        Target::Range(range) => value["range"] = range_json(range),
    }
    value
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
            rate: object.optional_uint("rate")?,
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
            schema: hash_from_json(object, "schema")?,
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
            let target = target_from_json(object)?;
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
                subject: native_code(&object.text("code")?)?,
                expected_version: object.uint("expected_version")?,
                add: keys_from_json(object, "add")?,
                remove,
            }
        }
        "seal_range" => {
            let range = range_from_json(object.object("range")?)?;
            let mut given = object.object("table")?;
            let table = NewTable {
                root: json::fixed_hex(&given.text("root")?)?,
                digest: json::fixed_hex(&given.text("digest")?)?,
                count: given.uint("count")?,
            };
            given.end()?;
            if table.count > range.size {
                return Err(Error::malformed(format!("a table of {} items in a range of {}", table.count, range.size)));
            }
            let mut receipts = Vec::new();
            for mut receipt in object.objects("receipts", MAX_RECEIPTS)? {
                receipts.push(StorageReceipt {
                    city: City::parse(&receipt.text("city")?)?,
                    signature: json::fixed_hex(&receipt.text("signature")?)?,
                });
                receipt.end()?;
            }
            receipts.sort_unstable_by_key(|receipt| receipt.city);
            if receipts.windows(2).any(|pair| pair[0].city == pair[1].city) {
                return Err(Error::malformed("two storage receipts of one city; name each city once"));
            }
            Action::SealRange { range, expected_version: object.uint("expected_version")?, table, receipts }
        }
        "override_item" => {
            let proof = json::from_hex(&object.text("proof")?)?;
            let mut decoder = Decoder::new(&proof);
            let proof = TableProof::decode(&mut decoder)?;
            decoder.end()?;
            Action::OverrideItem {
                holder: holder_from_json(object)?,
                category: category_from_json(object)?,
                item: NewItem {
                    serial: serial_from_json(object, "serial")?,
                    status: object.optional_text("status")?.map_or(Ok(Status::Active), |name| status_from_name(&name))?,
                    commitments: commitments_from_json(object)?,
                    services: services_from_json(object)?,
                },
                expected_version: object.uint("expected_version")?,
                proof,
            }
        }
        "reserve_range" => {
            let holder = holder_from_json(object)?;
            let class = Class::parse(&object.text("class")?)?;
            let base = serial_from_json(object, "base")?;
            Action::ReserveRange { holder, range: Range::new(holder.city, class, base, object.uint("size")?)? }
        }
        "register_aliases" => {
            let mut aliases = Vec::new();
            for mut entry in object.objects("aliases", MAX_ITEMS)? {
                aliases.push((entry.text("alias")?, native_code(&entry.text("code")?)?));
                entry.end()?;
            }
            aliases_in_order(object.text("namespace")?, aliases)?
        }
        "map_district" => {
            Action::MapDistrict { city: City::parse(&object.text("city")?)?, district: City::parse(&object.text("district")?)? }
        }
        "set_controllers" => Action::SetControllers {
            subject: native_code(&object.text("code")?)?,
            expected_version: object.uint("expected_version")?,
            threshold: object.uint("threshold")?,
        },
        "update_profile" => Action::UpdateProfile {
            subject: native_code(&object.text("code")?)?,
            expected_version: object.uint("expected_version")?,
            commitments: commitments_from_json(object)?,
            services: services_from_json(object)?,
            schema: hash_from_json(object, "schema")?,
        },
        "set_terms" => Action::SetTerms {
            city: City::parse(&object.text("city")?)?,
            org: Org::parse(&object.text("org")?)?,
            expected_version: object.uint("expected_version")?,
            name: name_from_json(object)?,
            quota: object.uint("quota")?,
            rate: object.optional_uint("rate")?,
        },
        "start_recovery" => Action::StartRecovery {
            subject: native_code(&object.text("code")?)?,
            expected_version: object.uint("expected_version")?,
            keys: keys_from_json(object, "keys")?,
        },
        "end_recovery" => Action::EndRecovery {
            subject: native_code(&object.text("code")?)?,
            expected_version: object.uint("expected_version")?,
            cancel: object.flag("cancel")?,
        },
        "offer_transfer" => Action::OfferTransfer {
            target: target_from_json(object)?,
            expected_version: object.uint("expected_version")?,
            to: object.optional_text("to")?.map(|text| Holder::parse(&text)).transpose()?,
        },
        "accept_transfer" => {
            Action::AcceptTransfer { target: target_from_json(object)?, expected_version: object.uint("expected_version")? }
        }
        "propose" => Action::Propose { city: City::parse(&object.text("city")?)?, change: Change::from_json(object.object("change")?)? },
        "vote" => Action::Vote { city: City::parse(&object.text("city")?)?, proposal: object.uint("proposal")? },
        "withdraw_proposal" => Action::WithdrawProposal { city: City::parse(&object.text("city")?)?, proposal: object.uint("proposal")? },
        other => {
            return Err(Error::malformed(format!("unknown operation {other:?}; see docs/protocol.md, lines P22 to P28 and P46 to P60")))
        }
    })
}

fn target_from_json(object: &mut Object) -> Result<Target, Error> {
    match object.optional_text("code")? {
        Some(code) => Ok(Target::Code(native_code(&code)?)),
        None => Ok(Target::Range(range_from_json(object.object("range")?)?)),
    }
}

fn range_from_json(mut object: Object) -> Result<Range, Error> {
    let city = City::parse(&object.text("city")?)?;
    let class = Class::parse(&object.text("class")?)?;
    let base = serial_from_json(&mut object, "base")?;
    let range = Range::new(city, class, base, object.uint("size")?)?;
    object.end()?;
    Ok(range)
}

fn serial_from_json(object: &mut Object, name: &str) -> Result<Serial, Error> {
    Serial::new(u32::try_from(object.uint(name)?).unwrap_or(u32::MAX))
}

fn hash_from_json(object: &mut Object, name: &str) -> Result<Option<Hash>, Error> {
    object.optional_text(name)?.map(|text| json::fixed_hex(&text)).transpose()
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

pub(super) fn keys_from_json(object: &mut Object, name: &str) -> Result<Vec<KeyProof>, Error> {
    let mut keys = Vec::new();
    for mut key in object.objects(name, MAX_KEY_ENTRIES)? {
        keys.push(KeyProof {
            purpose: Purpose::from_name(&key.text("purpose")?)?,
            key: json::fixed_hex(&key.text("key")?)?,
            from: key.optional_uint("from")?.unwrap_or(0),
            until: key.optional_uint("until")?,
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
        commitments.push((name, json::fixed_hex(text)?));
    }
    commitments_in_order(commitments)
}

pub(super) fn services_from_json(object: &mut Object) -> Result<Services, Error> {
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
        let serial = serial_from_json(&mut item, "serial")?;
        items.push(read(&mut item, serial)?);
        item.end()?;
    }
    in_order(items, serial_of)
}

pub(super) fn status_from_name(name: &str) -> Result<Status, Error> {
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
