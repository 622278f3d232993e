//! Organisations and keys (P17, P22, P28).
use super::execute::{check_name, check_version, Context, Output};
use super::operation::{Commitments, Holder, KeyProof};
use crate::code::{City, Org};
use crate::error::Error;
use crate::hash::{hex, Suite};
use crate::map_key::{Kind, MapKey};
use crate::record::{Children, KeyEntry, Purpose, Record};
use crate::signature;

/// The most transaction keys of a subject; its keys of other purposes do not count.
const MAX_KEYS: usize = 16;

/// The arguments of P22.
pub struct Admission<'a> {
    pub city: City,
    pub org: Org,
    pub name: &'a str,
    pub quota: u64,
    pub keys: &'a [KeyProof],
    pub commitments: &'a Commitments,
}

/// P22: a city admits an organisation.
pub fn admit(context: &mut Context<'_, '_, '_>, admission: &Admission<'_>) -> Result<Output, Error> {
    context.authorise_holder(&Holder { city: admission.city, org: None })?;
    let subject = Holder { city: admission.city, org: Some(admission.org) };
    let key = MapKey::Organisation(admission.city, admission.org);
    if context.overlay.contains(&key) {
        return Err(Error::rule("exists", format!("{} was admitted before; its code is never given again", subject.code())));
    }
    check_name(admission.name)?;
    context.check_profile(admission.commitments, &[])?;
    let mut record = Record::new(Kind::Organisation, context.overlay.height());
    record.name = Some(admission.name.to_owned());
    record.quota = Some(admission.quota);
    record.commitments.clone_from(admission.commitments);
    record.children = Children::Map;
    record.keys = register_keys(context, &subject, admission.keys)?;
    if record.keys.is_empty() {
        return Err(Error::rule("no_key_left", "an organisation needs a transaction key, or it could never sign anything"));
    }
    context.overlay.put(&key, record)?;
    Ok(None)
}

/// P28: a subject replaces transaction keys of its own.
pub fn rotate_keys(
    context: &mut Context<'_, '_, '_>,
    subject: &Holder,
    expected_version: u64,
    add: &[KeyProof],
    remove: &[[u8; 32]],
) -> Result<Output, Error> {
    context.authorise(subject)?;
    let Some(entry) = context.subject(subject)? else {
        return Err(Error::rule("unknown_code", format!("{} has no record", subject.code())));
    };
    check_version(&entry, expected_version)?;
    let mut keys = entry.record.keys.clone();
    for old in remove {
        let position = keys.iter().position(|held| held.key == *old);
        match position.map(|position| (position, keys[position].purpose)) {
            Some((position, Purpose::Transaction)) => {
                keys.remove(position);
            }
            Some((_, purpose)) => return Err(bad_purpose(purpose)),
            None => return Err(Error::rule("unknown_key", format!("{} does not hold the key {}", subject.code(), hex(old)))),
        }
    }
    keys.extend(register_keys(context, subject, add)?);
    let count = keys.iter().filter(|key| key.purpose == Purpose::Transaction).count();
    if count > MAX_KEYS {
        return Err(Error::rule("too_large", format!("{count} transaction keys, the limit is {MAX_KEYS}; remove one")));
    }
    if count == 0 {
        return Err(Error::rule("no_key_left", "a subject keeps at least one transaction key, or it could never sign again"));
    }
    keys.sort_unstable_by_key(|key| (key.purpose, key.key));
    let key = match subject.org {
        Some(org) => MapKey::Organisation(subject.city, org),
        None => MapKey::City(subject.city),
    };
    context.overlay.update(&key, &entry, |record| record.keys = keys)?;
    Ok(None)
}

fn bad_purpose(purpose: Purpose) -> Error {
    Error::rule("bad_purpose", format!("keys of purpose {} are not managed by this operation; only transaction keys are", purpose.name()))
}

/// Enters new keys into the register of keys, each for one subject and purpose for ever (P17).
fn register_keys(context: &mut Context<'_, '_, '_>, subject: &Holder, proofs: &[KeyProof]) -> Result<Vec<KeyEntry>, Error> {
    let height = context.overlay.height();
    let mut entries = Vec::with_capacity(proofs.len());
    for proof in proofs {
        if proof.purpose != Purpose::Transaction {
            return Err(bad_purpose(proof.purpose));
        }
        signature::is_acceptable_for_registration(&proof.key)
            .map_err(|_| Error::rule("bad_key", format!("key {} is of small order or not canonical; make a new one", hex(&proof.key))))?;
        let key = MapKey::Key(&proof.key);
        if context.overlay.contains(&key) {
            return Err(Error::rule(
                "key_in_use",
                format!("key {} belongs to a subject already; every key is registered once, make a new one", hex(&proof.key)),
            ));
        }
        let mut register = Record::new(Kind::Key, height);
        register.holder = Some(subject.code().text());
        register.purpose = Some(proof.purpose);
        context.overlay.put(&key, register)?;
        entries.push(KeyEntry { suite: Suite::Ed25519Sha256, purpose: proof.purpose, key: proof.key, from: height, until: None });
    }
    Ok(entries)
}
