//! Admitting, removing and suspending cities, and giving one new keys (P61 to P64).
use super::super::execute::{check_name, Context};
use super::super::keys::{check_standing, register_keys};
use super::super::operation::{KeyProof, Services};
use super::{certificate, configure, member, successor};
use crate::block::MIN_VALIDATORS;
use crate::code::{City, Code};
use crate::error::Error;
use crate::map_key::{Kind, MapKey};
use crate::record::{Children, KeyEntry, Purpose, Record, Status};

/// The most member cities; a list of their votes still fits a record.
const MAX_MEMBERS: u64 = 1_000;
/// The purposes of which a city has one key at every height, because nodes are known by them.
const NODE_KEYS: [Purpose; 3] = [Purpose::Consensus, Purpose::Checkpoint, Purpose::Tls];
/// The purposes that governance decides.
const GOVERNED: [Purpose; 4] = [Purpose::Transaction, Purpose::Consensus, Purpose::Checkpoint, Purpose::Tls];
/// The type of the service that says where a city's node listens.
const PEER: &str = "peer";

/// What a new city brings (P61).
pub struct Admission<'a> {
    pub name: &'a str,
    pub keys: &'a [KeyProof],
    pub certificate: &'a [u8],
    pub services: &'a Services,
}

/// P61: a city becomes a member.
pub fn admit(context: &mut Context<'_, '_, '_>, city: City, admission: &Admission<'_>) -> Result<(), Error> {
    // A code of a city is never given again, and what is a district of another city is not a city too.
    if context.overlay.contains(&MapKey::City(city)) || context.overlay.contains(&MapKey::District(city)) {
        return Err(Error::rule("exists", format!("{city} is or was a member city, or is a district of one")));
    }
    check_name(admission.name)?;
    context.check_profile(&[], admission.services)?;
    check_peer(admission.services)?;
    let mut record = Record::new(Kind::City, context.overlay.height());
    record.name = Some(admission.name.to_owned());
    record.children = Children::Map;
    record.services.clone_from(admission.services);
    record.keys = register_keys(context, &Code::City { city }, admission.keys, &GOVERNED)?;
    for purpose in NODE_KEYS {
        check_node_key(context, &record.keys, purpose)?;
    }
    check_standing(&record.keys, context.overlay.height(), 1)?;
    check_certificate(&record.keys, admission.certificate)?;
    record.certificate = Some(admission.certificate.into());
    record.keys.sort_unstable_by_key(|key| (key.purpose, key.key));
    context.overlay.put(&MapKey::City(city), record)?;
    let members = super::configuration(context)?.1.members + 1;
    if members > MAX_MEMBERS {
        return Err(Error::rule("too_large", format!("a network has at most {MAX_MEMBERS} member cities")));
    }
    configure(context, |configuration| configuration.members = members)
}

/// P62: a city leaves. Its codes keep their records, and nothing is done in its name any more.
pub fn remove(context: &mut Context<'_, '_, '_>, city: City) -> Result<(), Error> {
    let entry = member(context, city)?;
    let committee = super::configuration(context)?.1.committee;
    if committee.contains(&city) && committee.len() <= MIN_VALIDATORS {
        return Err(Error::rule(
            "committee_too_small",
            format!(
                "without {city} the committee would have {} cities, fewer than {MIN_VALIDATORS}; admit others to it first",
                committee.len() - 1
            ),
        ));
    }
    context.overlay.update(&MapKey::City(city), &entry, |record| record.status = Status::Retired)?;
    let (counts, suspended) = (successor(&entry.record).is_none(), entry.record.status == Status::Suspended);
    configure(context, |configuration| {
        configuration.committee.retain(|member| *member != city);
        configuration.members -= u64::from(counts);
        configuration.suspended -= u64::from(counts && suspended);
    })
}

/// P63: a city is suspended, or active again.
pub fn set_status(context: &mut Context<'_, '_, '_>, city: City, status: Status) -> Result<(), Error> {
    let entry = member(context, city)?;
    let present = entry.record.status;
    if status == Status::Retired || !present.may_become(status) {
        return Err(Error::rule("bad_transition", format!("from {} to {} is no move of the rule (P63)", present.name(), status.name())));
    }
    context.overlay.update(&MapKey::City(city), &entry, |record| record.status = status)?;
    if successor(&entry.record).is_some() {
        return Ok(()); // a merged city is counted nowhere
    }
    configure(context, |configuration| match status {
        Status::Suspended => configuration.suspended += 1,
        _ => configuration.suspended -= 1,
    })
}

/// P64: a city has other keys from now on, of each purpose that occurs; or another certificate of the tls key that it has.
pub fn replace_keys(context: &mut Context<'_, '_, '_>, city: City, proofs: &[KeyProof], certificate: Option<&[u8]>) -> Result<(), Error> {
    let entry = member(context, city)?;
    if proofs.is_empty() && certificate.is_none() {
        return Err(Error::rule("unchanged", format!("no key of {city} would change; name the new keys")));
    }
    let new = register_keys(context, &Code::City { city }, proofs, &GOVERNED)?;
    let occurs = |purpose: Purpose| new.iter().any(|key| key.purpose == purpose);
    for purpose in NODE_KEYS.into_iter().filter(|purpose| occurs(*purpose)) {
        check_node_key(context, &new, purpose)?;
    }
    if occurs(Purpose::Transaction) {
        check_standing(&new, context.overlay.height(), entry.record.threshold.unwrap_or(1))?;
    }
    match (occurs(Purpose::Tls), certificate) {
        (true, Some(certificate)) => check_certificate(&new, certificate)?,
        (false, Some(certificate)) => check_certificate(&entry.record.keys, certificate)?,
        (true, None) => return Err(Error::rule("bad_certificate", "a new tls key comes with its certificate")),
        (false, None) => {}
    }
    let mut keys: Vec<KeyEntry> = entry.record.keys.iter().filter(|key| !occurs(key.purpose)).copied().chain(new.iter().copied()).collect();
    keys.sort_unstable_by_key(|key| (key.purpose, key.key));
    context.overlay.update(&MapKey::City(city), &entry, |record| {
        record.keys = keys;
        record.recovery = None;
        if let Some(certificate) = certificate {
            record.certificate = Some(certificate.into());
        }
    })
}

/// One key of a purpose by which nodes know a city, which counts now and has no end: who decides a height must not depend on its time.
fn check_node_key(context: &Context<'_, '_, '_>, keys: &[KeyEntry], purpose: Purpose) -> Result<(), Error> {
    let mut of_purpose = keys.iter().filter(|key| key.purpose == purpose);
    match (of_purpose.next(), of_purpose.next()) {
        (Some(key), None) if key.from <= context.overlay.height() && key.until.is_none() => Ok(()),
        (Some(_), Some(_)) => Err(Error::rule("bad_purpose", format!("a city has one key of purpose {}, not more", purpose.name()))),
        _ => {
            Err(Error::rule("no_key_left", format!("a city needs a key of purpose {} that counts at once and has no end", purpose.name())))
        }
    }
}

fn check_certificate(keys: &[KeyEntry], bytes: &[u8]) -> Result<(), Error> {
    match keys.iter().find(|key| key.purpose == Purpose::Tls) {
        Some(key) => certificate::check(bytes, &key.key),
        None => Err(Error::rule("no_key_left", "a city needs a key of purpose tls")),
    }
}

/// Where the city's node listens: `tls://HOST:PORT`.
fn check_peer(services: &Services) -> Result<(), Error> {
    let mut peers = services.iter().filter(|(kind, _)| kind == PEER).map(|(_, uri)| uri.as_str());
    let address = |uri: &str| {
        let (host, port) = uri.strip_prefix("tls://")?.rsplit_once(':')?;
        let is_port = !port.starts_with('0') && port.parse::<u16>().is_ok() && port.bytes().all(|digit| digit.is_ascii_digit());
        (!host.is_empty() && !host.contains(['/', '?', '#', '@']) && is_port).then_some(())
    };
    match (peers.next().and_then(address), peers.next()) {
        (Some(()), None) => Ok(()),
        _ => Err(Error::rule("bad_service", "a city has one service of type peer with the address of its node, tls://HOST:PORT")),
    }
}
