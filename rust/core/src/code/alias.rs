//! Aliases: other names of items, as 21 digits or as a name in somebody's namespace.
use super::parse::{is_printable, read_alias, refuse_unprintable, strip_prefix_ignoring_case};
use super::{City, Class, Code, Org, Serial, NATIVE_PREFIX};
use crate::error::Error;
use std::fmt;

/// The 21-digit alias of an item: `130100 010203 000012345` without the spaces (the widths of CJ/T 553-2024).
/// Which code it stands for is a look-up: it does not hold organisation, use and model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Alias {
    /// The city.
    pub city: City,
    /// The class.
    pub class: Class,
    /// The serial within (city, class).
    pub serial: Serial,
}

impl Alias {
    /// Reads exactly 21 digits.
    pub fn parse(text: &str) -> Result<Alias, Error> {
        read_alias(text.as_bytes())
    }
}

impl fmt::Display for Alias {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{}", self.city, self.class, self.serial)
    }
}

/// A name that an item had before it had a code, in the namespace of a city or an organisation (P49):
/// `alias:130100.A7K2/lamps:LD-0017`.
///
/// ```text
/// subject   = "alias:" namespace ":" alias
/// namespace = city [ "." org ] [ "/" 1 to 32 of a-z 0-9 "-" ]
/// alias     = 1 to 64 printable ASCII characters
/// ```
/// Nothing of it is folded: an alias in other letters is another alias.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NamedAlias {
    city: City,
    org: Option<Org>,
    namespace: String,
    alias: String,
}

impl NamedAlias {
    /// Takes a namespace and an alias.
    pub fn new(namespace: &str, alias: &str) -> Result<NamedAlias, Error> {
        let (city, org) = read_namespace(namespace)?;
        check_alias(alias)?;
        Ok(NamedAlias { city, org, namespace: namespace.to_owned(), alias: alias.to_owned() })
    }

    /// Reads `alias:NAMESPACE:ALIAS`.
    pub fn parse(text: &str) -> Result<NamedAlias, Error> {
        match read_named_alias(text.as_bytes()) {
            Some(named) => named,
            None => Err(Error::Code(format!("{text:?} is no named alias; write {ALIAS_PREFIX}NAMESPACE:ALIAS"))),
        }
    }

    /// The code of whoever owns a namespace: a city, or an organisation.
    pub fn owner(namespace: &str) -> Result<Code, Error> {
        Ok(match read_namespace(namespace)? {
            (city, Some(org)) => Code::Org { city, org },
            (city, None) => Code::City { city },
        })
    }

    /// The city of the namespace.
    pub fn city(&self) -> City {
        self.city
    }

    /// The organisation whose namespace it is; none when it is the city's.
    pub fn org(&self) -> Option<Org> {
        self.org
    }

    /// The namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The alias within it.
    pub fn alias(&self) -> &str {
        &self.alias
    }
}

impl fmt::Display for NamedAlias {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{ALIAS_PREFIX}{}:{}", self.namespace, self.alias)
    }
}

/// Refuses a text that no namespace can hold.
pub fn check_alias(alias: &str) -> Result<(), Error> {
    if alias.is_empty() || alias.len() > MAX_ALIAS || !alias.bytes().all(is_printable) {
        return Err(Error::Code(format!(
            "{alias:?} is no alias: an alias is 1 to {MAX_ALIAS} printable ASCII characters without spaces; type it again"
        )));
    }
    Ok(())
}

/// Reads a named alias; none when the text does not start like one.
pub(super) fn read_named_alias(text: &[u8]) -> Option<Result<NamedAlias, Error>> {
    let named = strip_prefix_ignoring_case(text, ALIAS_PREFIX)?;
    Some(refuse_unprintable(text).and_then(|()| {
        let named = String::from_utf8_lossy(named);
        // A namespace has no colon; an alias may have some.
        match named.split_once(':') {
            Some((namespace, alias)) => NamedAlias::new(namespace, alias),
            None => Err(Error::Code(format!("{named:?} names no alias; write {ALIAS_PREFIX}NAMESPACE:ALIAS"))),
        }
    }))
}

fn read_namespace(namespace: &str) -> Result<(City, Option<Org>), Error> {
    let refuse = || {
        Error::Code(format!(
            "{namespace:?} is no namespace: it is the six digits of a city, or those with `.` and an organisation, and if wanted `/` and 1 to {MAX_SUFFIX} of a-z, 0-9 and `-`"
        ))
    };
    let (holder, suffix) = match namespace.split_once('/') {
        Some((holder, suffix)) => (holder, Some(suffix)),
        None => (namespace, None),
    };
    let in_suffix = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if suffix.is_some_and(|suffix| suffix.is_empty() || suffix.len() > MAX_SUFFIX || !suffix.bytes().all(in_suffix)) {
        return Err(refuse());
    }
    let code = Code::parse(&format!("{NATIVE_PREFIX}{holder}"), None).map_err(|_| refuse())?;
    match code {
        // The canonical text alone, so that a namespace has one.
        Code::City { city } if city.as_str() == holder => Ok((city, None)),
        Code::Org { city, org } if format!("{city}.{org}") == holder => Ok((city, Some(org))),
        _ => Err(refuse()),
    }
}

pub(super) const ALIAS_PREFIX: &str = "alias:";
/// The longest alias.
pub const MAX_ALIAS: usize = 64;
/// The longest end of a namespace, after its holder.
const MAX_SUFFIX: usize = 32;
