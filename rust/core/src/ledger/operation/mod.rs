//! Operations (P21 to P28): what a transaction asks for, in CBOR and in the JSON that tools use.
//!
//! Reading checks form only: lengths, digits, order, absolute limits. Whether the rule allows an operation is asked when it is
//! executed, against the state of that moment.
mod cbor;
mod json;

pub(crate) use json::{commitments_json, services_json};

use crate::code::{Category, City, Class, Code, Org, Serial};
use crate::error::Error;
use crate::hash::{domain, Hash, Suite, Tag};
use crate::record::{Purpose, Status};

/// The most items that any network may allow in a transaction.
pub const MAX_ITEMS: usize = 10_000;
/// The most key entries of one operation.
pub const MAX_KEY_ENTRIES: usize = 16;
const MAX_SERVICES: usize = 64;
const MAX_COMMITMENTS: usize = 256;

/// Commitments by attribute name.
pub type Commitments = Vec<(String, Hash)>;
/// `[type, uri]` pairs.
pub type Services = Vec<(String, String)>;

/// A city, or an organisation of a city: who can hold ranges and sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Holder {
    /// The city.
    pub city: City,
    /// The organisation; none when the city itself is meant.
    pub org: Option<Org>,
}

impl Holder {
    /// Reads a holder code such as `MA.156.130100.A7K2`.
    pub fn parse(text: &str) -> Result<Holder, Error> {
        match Code::parse(text, None)? {
            Code::City { city } => Ok(Holder { city, org: None }),
            Code::Org { city, org } => Ok(Holder { city, org: Some(org) }),
            _ => Err(Error::malformed(format!("{text:?} is not the code of a city or an organisation, such as MA.156.130100.A7K2"))),
        }
    }

    /// The holder code.
    pub fn code(&self) -> Code {
        match self.org {
            Some(org) => Code::Org { city: self.city, org },
            None => Code::City { city: self.city },
        }
    }
}

/// A key that is registered, with its proof of possession (P16).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyProof {
    /// What it will be used for.
    pub purpose: Purpose,
    /// The public key.
    pub key: [u8; 32],
    /// Signature by the key over [`possession_message`].
    pub possession: [u8; 64],
}

/// What the holder of a new key signs to show that it has the private half (P16).
pub fn possession_message(genesis: &Hash, subject: &Holder, purpose: Purpose, key: &[u8; 32]) -> Vec<u8> {
    let mut message = domain(Tag::Possession, Suite::Ed25519Sha256);
    message.extend_from_slice(genesis);
    message.push(purpose as u8);
    message.extend_from_slice(key);
    message.extend_from_slice(subject.code().text().as_bytes());
    message
}

/// An item to register.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewItem {
    /// Its serial in (city, class).
    pub serial: Serial,
    /// Active or allocated.
    pub status: Status,
    /// Salted commitments.
    pub commitments: Commitments,
    /// Services.
    pub services: Services,
}

/// An item to change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ItemUpdate {
    /// Its serial in (city, class).
    pub serial: Serial,
    /// The version that the submitter saw.
    pub expected_version: u64,
    /// All commitments from now on.
    pub commitments: Commitments,
    /// All services from now on.
    pub services: Services,
}

/// Whose status is set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// An organisation, a category or an item.
    Code(Code),
    /// A range.
    Range {
        /// The city.
        city: City,
        /// The class.
        class: Class,
        /// Its first serial.
        base: Serial,
        /// 1,000 or 1,000,000.
        size: u64,
    },
}

/// What an operation does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// P22.
    AdmitOrganisation {
        /// The admitting city.
        city: City,
        /// Its code within the city.
        org: Org,
        /// Its name.
        name: String,
        /// Serials that it may hold in each class.
        quota: u64,
        /// Its keys.
        keys: Vec<KeyProof>,
        /// Commitments of its profile.
        commitments: Commitments,
    },
    /// P23.
    AllocateRange {
        /// Who gets it.
        holder: Holder,
        /// The class.
        class: Class,
        /// 1,000 or 1,000,000.
        size: u64,
    },
    /// P24.
    RegisterCategory {
        /// Whose category.
        holder: Holder,
        /// Use, class and model.
        category: Category,
        /// Its name.
        name: String,
    },
    /// P25.
    RegisterItems {
        /// Who registers.
        holder: Holder,
        /// Use, class and model.
        category: Category,
        /// The items, ascending by serial.
        items: Vec<NewItem>,
    },
    /// P26.
    UpdateItems {
        /// The city.
        city: City,
        /// The class.
        class: Class,
        /// The items, ascending by serial.
        items: Vec<ItemUpdate>,
    },
    /// P27.
    SetStatus {
        /// Whose.
        target: Target,
        /// The version that the submitter saw.
        expected_version: u64,
        /// The new status.
        status: Status,
    },
    /// P28.
    RotateKeys {
        /// Whose keys.
        subject: Holder,
        /// The version that the submitter saw.
        expected_version: u64,
        /// Keys to add.
        add: Vec<KeyProof>,
        /// Keys to remove.
        remove: Vec<[u8; 32]>,
    },
}

/// An operation with its ground.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// What it does.
    pub action: Action,
    /// Why, as a code.
    pub reason: Option<u64>,
    /// Digest of the decision document.
    pub basis: Option<Hash>,
}

impl Operation {
    /// The keys that the operation registers, and for whom.
    pub fn new_keys(&self) -> (Option<Holder>, &[KeyProof]) {
        match &self.action {
            Action::AdmitOrganisation { city, org, keys, .. } => (Some(Holder { city: *city, org: Some(*org) }), keys),
            Action::RotateKeys { subject, add, .. } => (Some(*subject), add),
            _ => (None, &[]),
        }
    }

    /// About how many bytes its parsed form takes beyond those of its texts.
    pub fn memory(&self) -> usize {
        let pairs = |commitments: &Commitments, services: &Services| {
            commitments.len() * size_of::<(String, Hash)>() + services.len() * size_of::<(String, String)>()
        };
        let lists = match &self.action {
            Action::AdmitOrganisation { keys, commitments, .. } => keys.len() * size_of::<KeyProof>() + pairs(commitments, &Vec::new()),
            Action::RegisterItems { items, .. } => {
                items.iter().map(|item| size_of::<NewItem>() + pairs(&item.commitments, &item.services)).sum()
            }
            Action::UpdateItems { items, .. } => {
                items.iter().map(|item| size_of::<ItemUpdate>() + pairs(&item.commitments, &item.services)).sum()
            }
            Action::RotateKeys { add, remove, .. } => add.len() * size_of::<KeyProof>() + remove.len() * 32,
            Action::AllocateRange { .. } | Action::RegisterCategory { .. } | Action::SetStatus { .. } => 0,
        };
        size_of::<Operation>() + lists
    }

    /// How many items it touches.
    pub fn items(&self) -> usize {
        match &self.action {
            Action::RegisterItems { items, .. } => items.len(),
            Action::UpdateItems { items, .. } => items.len(),
            _ => 0,
        }
    }
}

fn range_size(size: u64) -> Result<u64, Error> {
    if size != 1_000 && size != 1_000_000 {
        return Err(Error::malformed(format!("a range of {size}; ranges have 1000 or 1000000 serials")));
    }
    Ok(size)
}

fn range_target(city: City, class: Class, base: Serial, size: u64) -> Result<Target, Error> {
    if u64::from(base.get()) % range_size(size)? != 0 {
        return Err(Error::malformed(format!("a range of {size} does not start at {base}; its first serial is a multiple of its size")));
    }
    Ok(Target::Range { city, class, base, size })
}

fn code_target(text: &str) -> Result<Target, Error> {
    let code = Code::parse(text, None)?;
    if matches!(code, Code::Foreign(_)) || code.text() != text {
        return Err(Error::malformed(format!("{text:?} is not a canonical native code")));
    }
    Ok(Target::Code(code))
}
