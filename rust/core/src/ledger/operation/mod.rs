//! Operations (P21 to P28, P46 to P60): what a transaction asks for, in CBOR and in the JSON that tools use.
//!
//! Reading checks form only: lengths, digits, order, absolute limits. Whether the rule allows an operation is asked when it is
//! executed, against the state of that moment.
mod cbor;
mod change;
mod columns;
mod json;

pub use crate::code::MAX_ALIAS;
pub use change::Change;
pub use columns::ItemColumns;

pub(crate) use json::{commitments_json, services_json};

use crate::code::{Category, City, Class, Code, Org, Serial};
use crate::error::Error;
use crate::hash::{domain, Hash, Suite, Tag};
use crate::map_key::MapKey;
use crate::record::{Purpose, Status};
use crate::table::TableProof;

/// The most items that any network may allow in a transaction.
pub const MAX_ITEMS: usize = 10_000;
/// The most key entries of one operation.
pub const MAX_KEY_ENTRIES: usize = 16;
/// The most storage receipts of a seal.
pub const MAX_RECEIPTS: usize = 100;
/// The longest namespace: city, organisation and 32 characters.
pub const MAX_NAMESPACE: usize = 48;
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
    /// First height at which it counts; 0 for at once.
    pub from: u64,
    /// First height at which it no longer counts.
    pub until: Option<u64>,
    /// Signature by the key over [`possession_message`].
    pub possession: [u8; 64],
}

/// What the holder of a new key signs to show that it has the private half (P16).
pub fn possession_message(genesis: &Hash, subject: &Code, purpose: Purpose, key: &[u8; 32]) -> Vec<u8> {
    let mut message = domain(Tag::Possession, Suite::Ed25519Sha256);
    message.extend_from_slice(genesis);
    message.push(purpose as u8);
    message.extend_from_slice(key);
    message.extend_from_slice(subject.text().as_bytes());
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

/// A range of serials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The city.
    pub city: City,
    /// The class.
    pub class: Class,
    /// Its first serial, a multiple of its size.
    pub base: Serial,
    /// 1,000 or 1,000,000.
    pub size: u64,
}

impl Range {
    /// Errors: `Malformed` for another size, or a first serial that is no multiple of it.
    pub fn new(city: City, class: Class, base: Serial, size: u64) -> Result<Range, Error> {
        if u64::from(base.get()) % range_size(size)? != 0 {
            return Err(Error::malformed(format!(
                "a range of {size} does not start at {base}; its first serial is a multiple of its size"
            )));
        }
        Ok(Range { city, class, base, size })
    }

    /// Where its record stands.
    pub fn key(&self) -> MapKey<'static> {
        if self.size == 1_000_000 {
            MapKey::Million(self.city, self.class, self.base)
        } else {
            MapKey::Thousand(self.city, self.class, self.base)
        }
    }
}

/// What an operation is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A city, an organisation, a category or an item.
    Code(Code),
    /// A range.
    Range(Range),
}

/// A table that is sealed (P46).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewTable {
    /// Root of the table.
    pub root: Hash,
    /// Digest of the table file.
    pub digest: Hash,
    /// How many leaves are not empty.
    pub count: u64,
}

/// A city's signature that it keeps a table (P45).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StorageReceipt {
    /// The city.
    pub city: City,
    /// By its checkpoint key.
    pub signature: [u8; 64],
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
        /// Operations in a block, when fewer than the network's parameter.
        rate: Option<u64>,
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
        /// SHA-256 of the JSON Schema of its items.
        schema: Option<Hash>,
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
        /// Whose keys: a city, an organisation or an item.
        subject: Code,
        /// The version that the submitter saw.
        expected_version: u64,
        /// Keys to add.
        add: Vec<KeyProof>,
        /// Keys to remove.
        remove: Vec<[u8; 32]>,
    },
    /// P46.
    SealRange {
        /// The range.
        range: Range,
        /// The version of its record that the submitter saw.
        expected_version: u64,
        /// The table.
        table: NewTable,
        /// Who keeps it, ascending by city.
        receipts: Vec<StorageReceipt>,
    },
    /// P47.
    OverrideItem {
        /// Who issued, or now issues, the item's code.
        holder: Holder,
        /// Use, class and model.
        category: Category,
        /// The item as it is from now on.
        item: NewItem,
        /// The version that the submitter saw; 0 for a new item.
        expected_version: u64,
        /// What the table holds for its serial.
        proof: TableProof,
    },
    /// P48.
    ReserveRange {
        /// Who gets it.
        holder: Holder,
        /// The range.
        range: Range,
    },
    /// P49.
    RegisterAliases {
        /// Whose aliases.
        namespace: String,
        /// The aliases with the codes that they name, ascending.
        aliases: Vec<(String, Code)>,
    },
    /// P50.
    MapDistrict {
        /// The city.
        city: City,
        /// The district.
        district: City,
    },
    /// P51.
    SetControllers {
        /// A city, an organisation or an item.
        subject: Code,
        /// The version that the submitter saw.
        expected_version: u64,
        /// How many transaction keys must sign.
        threshold: u64,
    },
    /// P52.
    UpdateProfile {
        /// A city, an organisation or a category.
        subject: Code,
        /// The version that the submitter saw.
        expected_version: u64,
        /// All commitments from now on.
        commitments: Commitments,
        /// All services from now on.
        services: Services,
        /// The schema of a category from now on.
        schema: Option<Hash>,
    },
    /// P53.
    SetTerms {
        /// The city.
        city: City,
        /// The organisation.
        org: Org,
        /// The version that the submitter saw.
        expected_version: u64,
        /// Its name.
        name: String,
        /// Serials that it may hold in each class.
        quota: u64,
        /// Operations in a block, when fewer than the network's parameter.
        rate: Option<u64>,
    },
    /// P54.
    StartRecovery {
        /// An organisation or an item.
        subject: Code,
        /// The version that the submitter saw.
        expected_version: u64,
        /// Its transaction keys after the recovery.
        keys: Vec<KeyProof>,
    },
    /// P55.
    EndRecovery {
        /// An organisation or an item.
        subject: Code,
        /// The version that the submitter saw.
        expected_version: u64,
        /// Whether the old keys stay.
        cancel: bool,
    },
    /// P56.
    OfferTransfer {
        /// An item or a range.
        target: Target,
        /// The version that the submitter saw.
        expected_version: u64,
        /// Who may accept; none withdraws.
        to: Option<Holder>,
    },
    /// P57.
    AcceptTransfer {
        /// An item or a range.
        target: Target,
        /// The version that the submitter saw.
        expected_version: u64,
    },
    /// P58.
    Propose {
        /// The city that proposes.
        city: City,
        /// What it proposes.
        change: Change,
    },
    /// P59.
    Vote {
        /// The city that agrees.
        city: City,
        /// To which proposal.
        proposal: u64,
    },
    /// P60.
    WithdrawProposal {
        /// The city that proposed.
        city: City,
        /// The proposal.
        proposal: u64,
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
    pub fn new_keys(&self) -> Option<(Code, &[KeyProof])> {
        match &self.action {
            Action::AdmitOrganisation { city, org, keys, .. } => Some((Code::Org { city: *city, org: *org }, keys)),
            Action::RotateKeys { subject, add: keys, .. } | Action::StartRecovery { subject, keys, .. } => Some((subject.clone(), keys)),
            Action::Propose { change: Change::AdmitCity { city, keys, .. } | Change::ReplaceKeys { city, keys, .. }, .. } => {
                Some((Code::City { city: *city }, keys))
            }
            _ => None,
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
            Action::SealRange { receipts, .. } => receipts.len() * size_of::<StorageReceipt>(),
            Action::OverrideItem { item, proof, .. } => pairs(&item.commitments, &item.services) + proof.siblings.len() * 32,
            Action::RegisterAliases { aliases, .. } => aliases.len() * size_of::<(String, Code)>(),
            Action::UpdateProfile { commitments, services, .. } => pairs(commitments, services),
            Action::StartRecovery { keys, .. } => keys.len() * size_of::<KeyProof>(),
            Action::Propose { change, .. } => change.memory(),
            Action::AllocateRange { .. }
            | Action::RegisterCategory { .. }
            | Action::SetStatus { .. }
            | Action::ReserveRange { .. }
            | Action::MapDistrict { .. }
            | Action::SetControllers { .. }
            | Action::SetTerms { .. }
            | Action::EndRecovery { .. }
            | Action::OfferTransfer { .. }
            | Action::AcceptTransfer { .. }
            | Action::Vote { .. }
            | Action::WithdrawProposal { .. } => 0,
        };
        size_of::<Operation>() + lists
    }

    /// How many items it touches.
    pub fn items(&self) -> usize {
        match &self.action {
            Action::RegisterItems { items, .. } => items.len(),
            Action::UpdateItems { items, .. } => items.len(),
            Action::RegisterAliases { aliases, .. } => aliases.len(),
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

/// A canonical native code.
fn native_code(text: &str) -> Result<Code, Error> {
    let code = Code::parse(text, None)?;
    if matches!(code, Code::Foreign(_)) || code.text() != text {
        return Err(Error::malformed(format!("{text:?} is not a canonical native code")));
    }
    Ok(code)
}
