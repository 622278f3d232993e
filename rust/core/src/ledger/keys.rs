//! The keys of a subject and how many of them must sign (P17, P28, P51).
use super::execute::{check_version, Context, Output};
use super::operation::{Holder, KeyProof};
use crate::code::Code;
use crate::error::Error;
use crate::hash::{hex, Suite};
use crate::map_key::{Kind, MapKey};
use crate::record::{KeyEntry, Purpose, Record};
use crate::signature;

/// The most transaction keys of a subject; its keys of other purposes do not count.
const MAX_KEYS: usize = 16;

/// P28: a subject replaces transaction keys of its own.
pub fn rotate(
    context: &mut Context<'_, '_, '_>,
    subject: &Code,
    expected_version: u64,
    add: &[KeyProof],
    remove: &[[u8; 32]],
) -> Result<Output, Error> {
    let code = subject;
    let subject = &Holder::parse(&code.text())?;
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
    keys.extend(register_keys(context, code, add, &[Purpose::Transaction])?);
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
    Ok(Output::None)
}

fn bad_purpose(purpose: Purpose) -> Error {
    Error::rule("bad_purpose", format!("keys of purpose {} are not managed by this operation; only transaction keys are", purpose.name()))
}

/// Whether the subject can go on signing whatever time brings: as many transaction keys that count at `height` and have no end as
/// must sign.
pub fn check_standing(keys: &[KeyEntry], height: u64, threshold: u64) -> Result<(), Error> {
    let standing = keys.iter().filter(|key| key.purpose == Purpose::Transaction && key.from <= height && key.until.is_none()).count();
    if (standing as u64) < threshold {
        return Err(Error::rule(
            "no_key_left",
            format!(
                "{standing} transaction keys would count now and have no end, {threshold} must sign; the subject would lock itself out"
            ),
        ));
    }
    Ok(())
}

fn check_purpose(purpose: Purpose, allowed: &[Purpose]) -> Result<(), Error> {
    if allowed.contains(&purpose) {
        return Ok(());
    }
    let names: Vec<&str> = allowed.iter().map(|purpose| purpose.name()).collect();
    Err(Error::rule("bad_purpose", format!("a key of purpose {} has no place here; known: {}", purpose.name(), names.join(", "))))
}

/// Enters new keys into the register of keys, each for one subject and purpose for ever (P16, P17).
pub fn register_keys(
    context: &mut Context<'_, '_, '_>,
    subject: &Code,
    proofs: &[KeyProof],
    purposes: &[Purpose],
) -> Result<Vec<KeyEntry>, Error> {
    let height = context.overlay.height();
    let mut entries = Vec::with_capacity(proofs.len());
    for proof in proofs {
        check_purpose(proof.purpose, purposes)?;
        signature::is_acceptable_for_registration(&proof.key)
            .map_err(|_| Error::rule("bad_key", format!("key {} is of small order or not canonical; make a new one", hex(&proof.key))))?;
        // No key counts for heights before it was registered.
        let from = proof.from.max(height);
        if proof.until.is_some_and(|until| until <= from) {
            return Err(Error::rule("bad_key", format!("key {} would never count: it ends before it begins", hex(&proof.key))));
        }
        let key = MapKey::Key(&proof.key);
        if context.overlay.contains(&key) {
            return Err(Error::rule(
                "key_in_use",
                format!("key {} belongs to a subject already; every key is registered once, make a new one", hex(&proof.key)),
            ));
        }
        let mut register = Record::new(Kind::Key, height);
        register.holder = Some(subject.text());
        register.purpose = Some(proof.purpose);
        context.overlay.put(&key, register)?;
        entries.push(KeyEntry { suite: Suite::Ed25519Sha256, purpose: proof.purpose, key: proof.key, from, until: proof.until });
    }
    Ok(entries)
}

/// P51: a subject says how many of its keys must sign.
pub fn set_controllers(context: &mut Context<'_, '_, '_>, subject: &Code, expected_version: u64, threshold: u64) -> Result<Output, Error> {
    super::unfinished(context, &(subject, expected_version, threshold))
}
