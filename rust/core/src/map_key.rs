//! Map keys: what a record stands under, and where that is in the tree (P8, P9).
use crate::code::{Category, City, Class, Org, Serial};
use crate::error::Error;
use crate::hash::{sha256, Hash};

/// What a map key names. The number is the first byte of the key and the first four bits of its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    /// The network (agency level).
    Network = 1,
    /// A member city.
    City = 2,
    /// An organisation of a city.
    Organisation = 3,
    /// A category that a holder registered.
    Category = 4,
    /// The serial space of a (city, class).
    Class = 5,
    /// A range of 1,000,000 serials.
    Million = 6,
    /// A range of 1,000 serials.
    Thousand = 7,
    /// One item.
    Item = 8,
    /// An alias of a code.
    Alias = 9,
    /// A foreign code and the claims to it.
    Foreign = 10,
    /// The parameters of the network.
    Parameters = 11,
    /// A public key and the one subject it belongs to.
    Key = 12,
    /// How much of a class an organisation holds.
    Holding = 13,
    /// A district whose digits stand in old numbers, and its city.
    District = 14,
    /// A change that cities vote on.
    Proposal = 15,
}

impl Kind {
    /// Every kind, ascending.
    pub const ALL: [Kind; 15] = [
        Kind::Network,
        Kind::City,
        Kind::Organisation,
        Kind::Category,
        Kind::Class,
        Kind::Million,
        Kind::Thousand,
        Kind::Item,
        Kind::Alias,
        Kind::Foreign,
        Kind::Parameters,
        Kind::Key,
        Kind::Holding,
        Kind::District,
        Kind::Proposal,
    ];

    /// Reads a kind byte.
    pub fn parse(byte: u64) -> Result<Kind, Error> {
        Kind::ALL
            .into_iter()
            .find(|kind| *kind as u64 == byte)
            .ok_or_else(|| Error::malformed(format!("unknown record kind {byte}; known: 1 to 15")))
    }

    /// The name used in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Network => "network",
            Kind::City => "city",
            Kind::Organisation => "organisation",
            Kind::Category => "category",
            Kind::Class => "class",
            Kind::Million => "million",
            Kind::Thousand => "thousand",
            Kind::Item => "item",
            Kind::Alias => "alias",
            Kind::Foreign => "foreign",
            Kind::Parameters => "parameters",
            Kind::Key => "key",
            Kind::Holding => "holding",
            Kind::District => "district",
            Kind::Proposal => "proposal",
        }
    }
}

/// A key of the state map (P8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapKey<'a> {
    /// The network.
    Network,
    /// A member city.
    City(City),
    /// An organisation.
    Organisation(City, Org),
    /// A category of an organisation, or of the city itself.
    Category(City, Option<Org>, Category),
    /// The serial space of a (city, class).
    Class(City, Class),
    /// The million range that holds this serial.
    Million(City, Class, Serial),
    /// The thousand range that holds this serial.
    Thousand(City, Class, Serial),
    /// An item.
    Item(City, Class, Serial),
    /// An alias in a namespace.
    Alias(&'a str, &'a [u8]),
    /// A foreign code, verbatim.
    Foreign(&'a str),
    /// The parameters.
    Parameters,
    /// A public key.
    Key(&'a [u8; 32]),
    /// What an organisation holds of a class.
    Holding(City, Org, Class),
    /// A district.
    District(City),
    /// A proposal by its number.
    Proposal(u64),
}

impl MapKey<'_> {
    /// The kind of record behind this key.
    pub fn kind(&self) -> Kind {
        match self {
            MapKey::Network => Kind::Network,
            MapKey::City(_) => Kind::City,
            MapKey::Organisation(..) => Kind::Organisation,
            MapKey::Category(..) => Kind::Category,
            MapKey::Class(..) => Kind::Class,
            MapKey::Million(..) => Kind::Million,
            MapKey::Thousand(..) => Kind::Thousand,
            MapKey::Item(..) => Kind::Item,
            MapKey::Alias(..) => Kind::Alias,
            MapKey::Foreign(_) => Kind::Foreign,
            MapKey::Parameters => Kind::Parameters,
            MapKey::Key(_) => Kind::Key,
            MapKey::Holding(..) => Kind::Holding,
            MapKey::District(_) => Kind::District,
            MapKey::Proposal(_) => Kind::Proposal,
        }
    }

    /// The bytes of the key.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(40);
        self.encode_to(&mut out);
        out
    }

    /// Appends the bytes of the key.
    pub fn encode_to(&self, out: &mut Vec<u8>) {
        fn prefixed(out: &mut Vec<u8>, field: &str) {
            // Fields of codes are at most 8 bytes, namespaces are capped where they are parsed.
            out.push(field.len() as u8);
            out.extend_from_slice(field.as_bytes());
        }
        out.push(self.kind() as u8);
        match self {
            MapKey::Network | MapKey::Parameters => {}
            MapKey::City(city) | MapKey::District(city) => out.extend_from_slice(city.as_str().as_bytes()),
            MapKey::Proposal(number) => out.extend_from_slice(&number.to_be_bytes()),
            MapKey::Organisation(city, org) => {
                out.extend_from_slice(city.as_str().as_bytes());
                prefixed(out, org.as_str());
            }
            MapKey::Category(city, org, category) => {
                out.extend_from_slice(city.as_str().as_bytes());
                prefixed(out, org.as_ref().map_or("", |org| org.as_str()));
                out.extend_from_slice(category.use_.as_str().as_bytes());
                out.extend_from_slice(category.class.as_str().as_bytes());
                prefixed(out, category.model.as_str());
            }
            MapKey::Class(city, class) => {
                out.extend_from_slice(city.as_str().as_bytes());
                out.extend_from_slice(class.as_str().as_bytes());
            }
            MapKey::Million(city, class, serial) | MapKey::Thousand(city, class, serial) | MapKey::Item(city, class, serial) => {
                out.extend_from_slice(city.as_str().as_bytes());
                out.extend_from_slice(class.as_str().as_bytes());
                let digits = serial.digits();
                let count = match self.kind() {
                    Kind::Million => 3,
                    Kind::Thousand => 6,
                    _ => 9,
                };
                out.extend_from_slice(&digits[..count]);
            }
            MapKey::Alias(namespace, bytes) => {
                prefixed(out, namespace);
                out.extend_from_slice(bytes);
            }
            MapKey::Foreign(text) => out.extend_from_slice(text.as_bytes()),
            MapKey::Key(key) => out.extend_from_slice(&key[..]),
            MapKey::Holding(city, org, class) => {
                out.extend_from_slice(city.as_str().as_bytes());
                prefixed(out, org.as_str());
                out.extend_from_slice(class.as_str().as_bytes());
            }
        }
    }

    /// Where the record stands in the tree (P9).
    pub fn path(&self) -> Hash {
        path_of(&self.encode())
    }
}

/// The path of an encoded map key: its SHA-256 with the first four bits replaced by the kind (P9).
pub fn path_of(key: &[u8]) -> Hash {
    let mut path = sha256(key);
    path[0] = (key.first().copied().unwrap_or(0) << 4) | (path[0] & 0x0f);
    path
}
