//! What holds for the whole network: the committee, the parameters, the protocol version (P65 to P67).
use super::super::execute::Context;
use super::{configuration, configure, member, successor};
use crate::block::MIN_VALIDATORS;
use crate::code::City;
use crate::error::Error;
use crate::genesis::Parameters;
use crate::map_key::MapKey;
use crate::record::{Status, MAX_PROTOCOLS};

fn unchanged(what: &str) -> Error {
    Error::rule("unchanged", format!("{what} would stay as it is"))
}

/// P65: these cities decide blocks from the next height on.
pub fn set_committee(context: &mut Context<'_, '_, '_>, cities: &[City]) -> Result<(), Error> {
    if cities.len() < MIN_VALIDATORS {
        return Err(Error::rule(
            "committee_too_small",
            format!("a committee of {}; it takes {MIN_VALIDATORS}, so that one faulty city can be tolerated", cities.len()),
        ));
    }
    for city in cities {
        let record = &member(context, *city)?.record;
        if let Some(successor) = successor(record) {
            return Err(Error::rule("merged", format!("{city} was merged into {successor}; name that city")));
        }
        if record.status != Status::Active {
            return Err(Error::rule("suspended", format!("{city} is {}; it cannot be in the committee", record.status.name())));
        }
    }
    if configuration(context)?.1.committee == cities {
        return Err(unchanged("the committee"));
    }
    configure(context, |configuration| configuration.committee = cities.to_vec())
}

/// P66: other values for some parameters, from the next height on (P71).
pub fn set_parameters(context: &mut Context<'_, '_, '_>, changed: &[(usize, u64)]) -> Result<(), Error> {
    let (entry, _) = configuration(context)?;
    let damaged = || Error::malformed("a record of parameters of another length");
    let present: [u64; Parameters::NAMES.len()] = entry.record.parameters.as_slice().try_into().map_err(|_| damaged())?;
    let mut values = present;
    for (place, value) in changed {
        *values.get_mut(*place).ok_or_else(damaged)? = *value;
    }
    Parameters::from_values(values).map_err(|error| Error::rule("bad_parameter", error.to_string()))?;
    if values == present {
        return Err(unchanged("every parameter"));
    }
    context.overlay.update(&MapKey::Parameters, &entry, |record| record.parameters = values.to_vec())
}

/// P67: from a height on, headers have a protocol version and its rules hold.
pub fn schedule_protocol(context: &mut Context<'_, '_, '_>, version: u64, height: u64) -> Result<(), Error> {
    let mut protocol = configuration(context)?.1.protocol;
    let next = context.overlay.height().saturating_add(1);
    // The newest one can be moved as long as its height has not come: also out of the way of a mistake.
    let is_moved = protocol.len() > 1 && protocol.last().is_some_and(|(last, from)| *last == version && *from > next);
    if is_moved && protocol.pop() == Some((version, height)) {
        return Err(unchanged("the schedule"));
    }
    let (last, from) = protocol.last().copied().unwrap_or((0, 0));
    if version != last + 1 {
        return Err(Error::rule("bad_parameter", format!("protocol version {version} does not follow {last}; versions ascend by one")));
    }
    if protocol.len() >= MAX_PROTOCOLS {
        return Err(Error::rule("too_large", format!("a network has at most {MAX_PROTOCOLS} protocol versions")));
    }
    if height <= next || height <= from {
        return Err(Error::rule(
            "too_early",
            format!("protocol version {version} from height {height} on; choose one above {}, and leave the cities time", next.max(from)),
        ));
    }
    configure(context, |configuration| {
        protocol.push((version, height));
        configuration.protocol = protocol;
    })
}
