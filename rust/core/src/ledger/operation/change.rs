//! Changes that cities vote on (P58, P61 to P68), in CBOR and in JSON.
use super::cbor::{decode_keys, encode_keys, encode_services, optional_services};
use super::json::{keys_from_json, keys_json, services_from_json, services_json, status_from_name};
use super::{KeyProof, Services};
use crate::block::MAX_VALIDATORS;
use crate::code::City;
use crate::error::Error;
use crate::genesis::Parameters;
use crate::hash::hex;
use crate::json::{self, Object};
use crate::record::{Status, MAX_CERTIFICATE};
use crate::wire::{Decoder, Encoder, MAX_TEXT};
use serde_json::{json, Map, Value};

/// What cities may decide together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// P61.
    AdmitCity {
        /// Its six digits.
        city: City,
        /// Its name.
        name: String,
        /// Its keys: consensus, checkpoint, tls and transaction.
        keys: Vec<KeyProof>,
        /// The self-signed certificate of its tls key, DER.
        certificate: Vec<u8>,
        /// Its services.
        services: Services,
    },
    /// P62.
    RemoveCity {
        /// Which.
        city: City,
    },
    /// P63.
    SetCityStatus {
        /// Which.
        city: City,
        /// Active or suspended.
        status: Status,
    },
    /// P64.
    ReplaceKeys {
        /// Whose.
        city: City,
        /// The keys from now on, of each purpose that occurs.
        keys: Vec<KeyProof>,
        /// The self-signed certificate of a new tls key, DER.
        certificate: Option<Vec<u8>>,
    },
    /// P65.
    SetCommittee {
        /// Who votes, ascending.
        cities: Vec<City>,
    },
    /// P66.
    SetParameters {
        /// `(place in the order of P6, value)`, ascending.
        values: Vec<(usize, u64)>,
    },
    /// P67.
    ScheduleProtocol {
        /// The protocol version.
        version: u64,
        /// The first height with it.
        height: u64,
    },
    /// P68.
    MergeCity {
        /// Which.
        city: City,
        /// The city that continues it.
        into: City,
    },
}

impl Change {
    /// Writes `[kind, fields…]`.
    pub fn encode(&self, out: &mut Encoder) {
        match self {
            Change::AdmitCity { city, name, keys, certificate, services } => {
                out.array(6).uint(1).text(city.as_str()).text(name);
                encode_keys(out, keys);
                out.bytes(certificate);
                encode_services(out, services);
            }
            Change::RemoveCity { city } => {
                out.array(2).uint(2).text(city.as_str());
            }
            Change::SetCityStatus { city, status } => {
                out.array(3).uint(3).text(city.as_str()).uint(status.number());
            }
            Change::ReplaceKeys { city, keys, certificate } => {
                out.array(4).uint(4).text(city.as_str());
                encode_keys(out, keys);
                out.bytes_or_null(certificate.as_deref());
            }
            Change::SetCommittee { cities } => {
                out.array(2).uint(5).array(cities.len());
                for city in cities {
                    out.text(city.as_str());
                }
            }
            Change::SetParameters { values } => {
                out.array(2).uint(6).array(values.len());
                for (place, value) in values {
                    out.array(2).uint(*place as u64).uint(*value);
                }
            }
            Change::ScheduleProtocol { version, height } => {
                out.array(3).uint(7).uint(*version).uint(*height);
            }
            Change::MergeCity { city, into } => {
                out.array(3).uint(8).text(city.as_str()).text(into.as_str());
            }
        }
    }

    /// Reads what [`Change::encode`] writes.
    pub fn decode(decoder: &mut Decoder<'_>) -> Result<Change, Error> {
        let parts = decoder.array(6)?;
        if parts < 2 {
            return Err(Error::malformed("a change is [kind, fields]; see docs/cityid.cddl"));
        }
        let kind = decoder.uint()?;
        let change = match (kind, parts) {
            (1, 6) => Change::AdmitCity {
                city: decode_city(decoder)?,
                name: decoder.text(MAX_TEXT)?.to_owned(),
                keys: decode_keys(decoder)?,
                certificate: decoder.bytes(MAX_CERTIFICATE)?.to_vec(),
                services: optional_services(decoder)?,
            },
            (2, 2) => Change::RemoveCity { city: decode_city(decoder)? },
            (3, 3) => Change::SetCityStatus { city: decode_city(decoder)?, status: Status::parse(decoder.uint()?)? },
            (4, 4) => Change::ReplaceKeys {
                city: decode_city(decoder)?,
                keys: decode_keys(decoder)?,
                certificate: if decoder.null() { None } else { Some(decoder.bytes(MAX_CERTIFICATE)?.to_vec()) },
            },
            (5, 2) => {
                let count = decoder.list(MAX_VALIDATORS, 7)?;
                let cities = (0..count).map(|_| decode_city(decoder)).collect::<Result<Vec<_>, _>>()?;
                Change::SetCommittee { cities: ascending(cities)? }
            }
            (6, 2) => {
                let count = decoder.list(Parameters::NAMES.len(), 3)?;
                let mut values = Vec::with_capacity(count);
                for _ in 0..count {
                    decoder.array_of(2)?;
                    values.push((decoder.uint_to(Parameters::NAMES.len() as u64 - 1)? as usize, decoder.uint()?));
                }
                Change::SetParameters { values: places_ascend(values)? }
            }
            (7, 3) => Change::ScheduleProtocol { version: decoder.uint()?, height: decoder.uint()? },
            (8, 3) => Change::MergeCity { city: decode_city(decoder)?, into: decode_city(decoder)? },
            _ => return Err(Error::malformed(format!("unknown change {kind} of {parts} parts; see docs/cityid.cddl"))),
        };
        Ok(change)
    }

    /// The JSON form (P61 to P68).
    pub fn to_json(&self) -> Value {
        match self {
            Change::AdmitCity { city, name, keys, certificate, services } => json!({
                "change": "admit_city", "city": city.as_str(), "name": name, "keys": keys_json(keys), "certificate": hex(certificate),
                "services": services_json(services),
            }),
            Change::RemoveCity { city } => json!({"change": "remove_city", "city": city.as_str()}),
            Change::SetCityStatus { city, status } => {
                json!({"change": "set_city_status", "city": city.as_str(), "status": status.name()})
            }
            Change::ReplaceKeys { city, keys, certificate } => json!({
                "change": "replace_keys", "city": city.as_str(), "keys": keys_json(keys),
                "certificate": certificate.as_deref().map(hex),
            }),
            Change::SetCommittee { cities } => {
                json!({"change": "set_committee", "cities": cities.iter().map(|city| city.as_str()).collect::<Vec<_>>()})
            }
            Change::SetParameters { values } => {
                let named = values.iter().map(|(place, value)| (Parameters::NAMES[*place].0.to_owned(), json!(value)));
                json!({"change": "set_parameters", "parameters": named.collect::<Map<_, _>>()})
            }
            Change::ScheduleProtocol { version, height } => {
                json!({"change": "schedule_protocol", "version": version, "height": height})
            }
            Change::MergeCity { city, into } => json!({"change": "merge_city", "city": city.as_str(), "into": into.as_str()}),
        }
    }

    /// Reads the JSON form.
    pub fn from_json(mut object: Object) -> Result<Change, Error> {
        let kind = object.text("change")?;
        let change = match kind.as_str() {
            "admit_city" => Change::AdmitCity {
                city: City::parse(&object.text("city")?)?,
                name: object.text("name")?,
                keys: keys_from_json(&mut object, "keys")?,
                certificate: certificate(&object.text("certificate")?)?,
                services: services_from_json(&mut object)?,
            },
            "remove_city" => Change::RemoveCity { city: City::parse(&object.text("city")?)? },
            "set_city_status" => {
                Change::SetCityStatus { city: City::parse(&object.text("city")?)?, status: status_from_name(&object.text("status")?)? }
            }
            "replace_keys" => Change::ReplaceKeys {
                city: City::parse(&object.text("city")?)?,
                keys: keys_from_json(&mut object, "keys")?,
                certificate: object.optional_text("certificate")?.map(|text| certificate(&text)).transpose()?,
            },
            "set_committee" => {
                let mut cities =
                    object.texts("cities", MAX_VALIDATORS)?.iter().map(|city| City::parse(city)).collect::<Result<Vec<_>, _>>()?;
                cities.sort_unstable();
                Change::SetCommittee { cities: ascending(cities)? }
            }
            "set_parameters" => {
                let mut values = Vec::new();
                let mut given = object.object("parameters")?;
                for (place, (name, ..)) in Parameters::NAMES.iter().enumerate() {
                    if let Some(value) = given.optional_uint(name)? {
                        values.push((place, value));
                    }
                }
                given.end()?;
                Change::SetParameters { values: places_ascend(values)? }
            }
            "schedule_protocol" => Change::ScheduleProtocol { version: object.uint("version")?, height: object.uint("height")? },
            "merge_city" => Change::MergeCity { city: City::parse(&object.text("city")?)?, into: City::parse(&object.text("into")?)? },
            other => return Err(Error::malformed(format!("unknown change {other:?}; see docs/protocol.md, lines P61 to P68"))),
        };
        object.end()?;
        Ok(change)
    }

    /// About how many bytes its lists take.
    pub(super) fn memory(&self) -> usize {
        match self {
            Change::AdmitCity { keys, services, .. } => keys.len() * size_of::<KeyProof>() + services.len() * size_of::<(String, String)>(),
            Change::ReplaceKeys { keys, .. } => keys.len() * size_of::<KeyProof>(),
            Change::SetCommittee { cities } => cities.len() * size_of::<City>(),
            Change::SetParameters { values } => values.len() * size_of::<(usize, u64)>(),
            Change::RemoveCity { .. } | Change::SetCityStatus { .. } | Change::ScheduleProtocol { .. } | Change::MergeCity { .. } => 0,
        }
    }
}

fn decode_city(decoder: &mut Decoder<'_>) -> Result<City, Error> {
    City::parse(decoder.text(6)?)
}

fn ascending(cities: Vec<City>) -> Result<Vec<City>, Error> {
    if cities.windows(2).any(|pair| pair[0] >= pair[1]) {
        return Err(Error::malformed("cities of a committee that are repeated or not ascending"));
    }
    Ok(cities)
}

fn places_ascend(values: Vec<(usize, u64)>) -> Result<Vec<(usize, u64)>, Error> {
    if values.is_empty() || values.windows(2).any(|pair| pair[0].0 >= pair[1].0) {
        return Err(Error::malformed("a change of parameters names at least one, each once, in the order of P6"));
    }
    Ok(values)
}

fn certificate(text: &str) -> Result<Vec<u8>, Error> {
    let bytes = json::from_hex(text)?;
    if bytes.len() > MAX_CERTIFICATE {
        return Err(Error::malformed(format!("a certificate of {} bytes, the limit is {MAX_CERTIFICATE}", bytes.len())));
    }
    Ok(bytes)
}
