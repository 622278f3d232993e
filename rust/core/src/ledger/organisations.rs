//! Organisations and their terms (P22, P53).
use super::execute::{check_name, check_version, Context, Output};
use super::keys::register_first_keys;
use super::operation::{Commitments, Holder, KeyProof};
use super::subject::check_live;
use crate::code::{City, Org};
use crate::error::Error;
use crate::map_key::{Kind, MapKey};
use crate::record::{Children, Record};

/// The arguments of P22.
pub struct Admission<'a> {
    pub city: City,
    pub org: Org,
    pub name: &'a str,
    pub quota: u64,
    pub rate: Option<u64>,
    pub keys: &'a [KeyProof],
    pub commitments: &'a Commitments,
}

/// What a city sets for an organisation (P53).
pub struct Terms<'a> {
    pub name: &'a str,
    pub quota: u64,
    pub rate: Option<u64>,
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
    record.rate = admission.rate;
    record.commitments.clone_from(admission.commitments);
    record.children = Children::Map;
    record.keys = register_first_keys(context, &subject.code(), admission.keys)?;
    context.overlay.put(&key, record)?;
    Ok(Output::None)
}

/// P53: a city changes the terms of an organisation.
pub fn set_terms(
    context: &mut Context<'_, '_, '_>,
    city: City,
    org: Org,
    expected_version: u64,
    terms: &Terms<'_>,
) -> Result<Output, Error> {
    context.authorise_holder(&Holder { city, org: None })?;
    check_name(terms.name)?;
    let key = MapKey::Organisation(city, org);
    let Some(entry) = context.overlay.get(&key)? else {
        return Err(Error::rule("unknown_code", format!("MA.156.{city}.{org} was never admitted; check the code")));
    };
    check_live(&entry.record, &Holder { city, org: Some(org) }.code())?;
    check_version(&entry, expected_version)?;
    context.overlay.update(&key, &entry, |record| {
        record.name = Some(terms.name.to_owned());
        record.quota = Some(terms.quota);
        record.rate = terms.rate;
    })?;
    Ok(Output::None)
}
