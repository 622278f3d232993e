//! Recovery of a subject by its parent, after a delay in which others may object (P54, P55).
use super::execute::{Context, Output};
use super::keys::register_next_keys;
use super::operation::KeyProof;
use super::subject::Subject;
use crate::code::Code;
use crate::error::Error;
use crate::record::{KeyEntry, Purpose, Recovery};

/// P54.
pub fn start(context: &mut Context<'_, '_, '_>, code: &Code, expected_version: u64, keys: &[KeyProof]) -> Result<Output, Error> {
    let subject = Subject::find(context, code)?;
    subject.authorise_parent(context)?;
    subject.check_version(expected_version)?;
    subject.check_settled()?;
    if !subject.has_keys() {
        return Err(Error::rule(
            "unknown_key",
            format!("{code} has no transaction keys to recover; whoever holds it adds them by rotation"),
        ));
    }
    let due = context.overlay.height().saturating_add(context.parameters.recovery_delay);
    // In the register from now on, so that nobody else takes them in the meantime.
    let keys = register_next_keys(context, code, keys, due)?;
    subject.change(context, |record| record.recovery = Some(Box::new(Recovery { due, keys })))?;
    Ok(Output::None)
}

/// P55.
pub fn end(context: &mut Context<'_, '_, '_>, code: &Code, expected_version: u64, cancel: bool) -> Result<Output, Error> {
    let subject = Subject::find(context, code)?;
    if cancel && may_object(context, &subject) {
        context.charge_own(code)?;
    } else {
        subject.authorise_parent(context)?;
    }
    subject.check_version(expected_version)?;
    let Some(recovery) = subject.record().recovery.clone() else {
        return Err(Error::rule("no_recovery", format!("no recovery of {code} is under way")));
    };
    if cancel {
        subject.change(context, |record| record.recovery = None)?;
        return Ok(Output::None);
    }
    let height = context.overlay.height();
    if height < recovery.due {
        return Err(Error::rule(
            "too_early",
            format!("the new keys of {code} may take over from height {}, this is {height}", recovery.due),
        ));
    }
    subject.change(context, |record| {
        record.keys.retain(|key| key.purpose != Purpose::Transaction);
        // They count from now, not from when they were shown.
        record.keys.extend(recovery.keys.into_iter().map(|key| KeyEntry { from: key.from.max(height), ..key }));
        record.keys.sort_unstable_by_key(|key| (key.purpose, key.key));
        record.threshold = None;
        record.recovery = None;
    })?;
    Ok(Output::None)
}

/// Whether one recovery key of the subject, or its transaction keys at its threshold, signed. A suspended subject may object too:
/// to be suspended is not to be replaced.
fn may_object(context: &Context<'_, '_, '_>, subject: &Subject) -> bool {
    let record = subject.record();
    let recovery = record.keys_for(Purpose::Recovery, context.overlay.height()).any(|key| context.signers.binary_search(key).is_ok());
    recovery || context.is_signed_by_keys_of(record)
}
