//! Numbers that were given before a city joined: reserved ranges, aliases, districts (P48 to P50).
use super::execute::{Context, Output};
use super::operation::{Holder, Range};
use super::ranges::{count_holding, hold, range_of, Space};
use crate::code::{check_alias, City, Code, NamedAlias};
use crate::error::Error;
use crate::map_key::{Kind, MapKey};
use crate::record::{Children, Record, Status};

/// P48: a city gives a range at the serials that it had before.
pub fn reserve(context: &mut Context<'_, '_, '_>, holder: &Holder, range: &Range) -> Result<Output, Error> {
    let Range { city, class, base, size } = *range;
    context.authorise_holder(&Holder { city, org: None })?;
    if context.subject(holder)?.is_none() {
        return Err(Error::rule("unknown_code", format!("{} was never admitted; admit it, then reserve its range", holder.code())));
    }
    context.check_holder_active(holder)?;
    let taken = |what: &str| {
        Err(Error::rule("exists", format!("the range of {size} from {base} of class {class} in {city} cannot be reserved: {what}")))
    };
    let million = context.overlay.get(&MapKey::Million(city, class, base))?;
    match million {
        Some(million) if million.record.children != Children::Map => return taken("its million range is held"),
        Some(_) if range.key().kind() == Kind::Million => return taken("its million range is divided into thousands"),
        _ if context.overlay.contains(&range.key()) => return taken("it is held"),
        _ => {}
    }
    let space = Space::read(context, city, class)?;
    if million.is_none() && range.key().kind() == Kind::Thousand {
        space.open(context, base)?;
    }
    hold(context, range, holder)?;
    count_holding(context, holder, class, size)?;
    space.settle(context)?;
    Ok(Output::None)
}

/// P49: old identifiers become names of codes.
pub fn register_aliases(context: &mut Context<'_, '_, '_>, namespace: &str, aliases: &[(String, Code)]) -> Result<Output, Error> {
    let owner = NamedAlias::owner(namespace).map_err(|error| Error::rule("bad_name", error.to_string()))?;
    let owner = Holder::parse(&owner.text())?;
    let city = owner.city;
    context.authorise_holder(&owner)?;
    // Mostly one holder and a few ranges for all of them: what one alias showed of a thousand serials holds for those that follow,
    // because this operation changes no range.
    let mut agreed = vec![owner.code().text()];
    let mut last_range = None;
    for (alias, code) in aliases {
        check_alias(alias).map_err(|error| Error::rule("bad_name", error.to_string()))?;
        let named = || format!("alias:{namespace}:{alias}");
        let (Code::Item { city: of, category, serial, .. }, true) = (code, code.city() == Some(city)) else {
            return Err(Error::rule("unknown_code", format!("{code} is no item of {city}; {} can only name such a code", named())));
        };
        if last_range != Some((category.class, serial.thousand())) {
            let Some((_, range)) = range_of(context, *of, category.class, *serial)? else {
                return Err(Error::rule("not_in_range", format!("nobody holds the range of {code}; reserve or allocate it first")));
            };
            if range.record.status != Status::Active {
                return Err(Error::rule("suspended", format!("the range of {code} is {}", range.record.status.name())));
            }
            let holder = range.record.holder.as_deref().unwrap_or_default();
            if !agreed.iter().any(|known| known == holder) {
                context.authorise_holder(&Holder::parse(holder)?)?;
                agreed.push(holder.to_owned());
            }
            last_range = Some((category.class, serial.thousand()));
        }
        let mut record = Record::new(Kind::Alias, context.overlay.height());
        record.code = Some(code.text());
        if !context.overlay.create(&MapKey::Alias(namespace, alias.as_bytes()), record)? {
            return Err(Error::rule("exists", format!("{} names a code already, and names it for ever", named())));
        }
    }
    Ok(Output::None)
}

/// P50: a city says which digits stand in its old numbers.
pub fn map_district(context: &mut Context<'_, '_, '_>, city: City, district: City) -> Result<Output, Error> {
    context.authorise_holder(&Holder { city, org: None })?;
    let key = MapKey::District(district);
    if context.overlay.contains(&MapKey::City(district)) {
        return Err(Error::rule("exists", format!("{district} is a member city, so its numbers are its own")));
    }
    if context.overlay.contains(&key) {
        return Err(Error::rule("exists", format!("{district} is mapped already, and stays so")));
    }
    let mut record = Record::new(Kind::District, context.overlay.height());
    record.administered_by = Some(city);
    context.overlay.put(&key, record)?;
    Ok(Output::None)
}
