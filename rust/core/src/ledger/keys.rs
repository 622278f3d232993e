//! The keys of a subject and how many of them must sign (P16, P17, P28, P51).
use super::execute::{Context, Output};
use super::operation::KeyProof;
use super::subject::Subject;
use crate::code::Code;
use crate::error::Error;
use crate::hash::{hex, Suite};
use crate::map_key::{Kind, MapKey};
use crate::record::{KeyEntry, Purpose, Record};
use crate::signature;

/// The most keys of one purpose; those of other purposes do not count, or a city with many would be held fast.
const MAX_KEYS: usize = 16;
/// The purposes that subjects manage themselves; the others are for governance (P64).
const MANAGED: [Purpose; 3] = [Purpose::Transaction, Purpose::Recovery, Purpose::Assertion];

/// P28: a subject replaces keys of its own.
pub fn rotate(
    context: &mut Context<'_, '_, '_>,
    code: &Code,
    expected_version: u64,
    add: &[KeyProof],
    remove: &[[u8; 32]],
) -> Result<Output, Error> {
    let subject = Subject::find(context, code)?;
    subject.authorise(context)?;
    subject.check_version(expected_version)?;
    subject.check_settled()?;
    let mut keys = subject.record().keys.clone();
    for old in remove {
        match keys.iter().position(|held| held.key == *old) {
            Some(position) => {
                check_purpose(keys[position].purpose, &MANAGED)?;
                keys.remove(position);
            }
            None => return Err(Error::rule("unknown_key", format!("{code} does not hold the key {}", hex(old)))),
        }
    }
    keys.extend(register_keys(context, code, add, &MANAGED)?);
    for purpose in MANAGED {
        let count = keys.iter().filter(|key| key.purpose == purpose).count();
        if count > MAX_KEYS {
            return Err(Error::rule("too_large", format!("{count} {} keys, the limit is {MAX_KEYS}; remove one", purpose.name())));
        }
    }
    // An item may have keys of other purposes alone: its holder then goes on speaking for it.
    if !subject.is_item() || subject.has_keys() || keys.iter().any(|key| key.purpose == Purpose::Transaction) {
        check_standing(&keys, context.overlay.height(), subject.record().threshold.unwrap_or(1))?;
    }
    keys.sort_unstable_by_key(|key| (key.purpose, key.key));
    subject.change(context, |record| record.keys = keys)?;
    Ok(Output::None)
}

/// P51: a subject says how many of its keys must sign.
pub fn set_controllers(context: &mut Context<'_, '_, '_>, code: &Code, expected_version: u64, threshold: u64) -> Result<Output, Error> {
    let subject = Subject::find(context, code)?;
    subject.authorise(context)?;
    subject.check_version(expected_version)?;
    subject.check_settled()?;
    if threshold == 0 {
        return Err(Error::rule("no_key_left", "a threshold of 0 would let everybody sign; at least one key must"));
    }
    check_standing(&subject.record().keys, context.overlay.height(), threshold)?;
    subject.change(context, |record| record.threshold = (threshold > 1).then_some(threshold))?;
    Ok(Output::None)
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

/// [`register_keys`] for a new organisation (P22), which must be able to sign.
pub fn register_first_keys(context: &mut Context<'_, '_, '_>, subject: &Code, proofs: &[KeyProof]) -> Result<Vec<KeyEntry>, Error> {
    let entries = register_keys(context, subject, proofs, &MANAGED)?;
    check_standing(&entries, context.overlay.height(), 1)?;
    Ok(entries)
}

/// [`register_keys`] for those that take over after a recovery (P54): transaction keys, of which one counts when it is due and has no
/// end.
pub fn register_next_keys(
    context: &mut Context<'_, '_, '_>,
    subject: &Code,
    proofs: &[KeyProof],
    due: u64,
) -> Result<Vec<KeyEntry>, Error> {
    let entries = register_keys(context, subject, proofs, &[Purpose::Transaction])?;
    check_standing(&entries, due, 1)?;
    Ok(entries)
}
