//! Records: one version of what a map key resolves to, for every kind of subject (P11, P13).
//!
//! A record is a CBOR map with ascending integer keys (`codec`). Every kind shares version, height, previous hash, status and
//! where its children live; which of the remaining fields it has depends on its kind.
mod codec;

use crate::code::City;
use crate::error::Error;
use crate::hash::{tagged, Hash, Suite, Tag};
use crate::map_key::Kind;
pub(crate) use codec::{decode_commitments, decode_services};

/// The life of a subject (P13). The order of the variants is from best to worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// In use.
    Active,
    /// Assigned, not in use yet.
    Allocated,
    /// Out of use for now.
    Suspended,
    /// Out of use for ever.
    Retired,
}

impl Status {
    /// The number that stands in records and operations.
    pub const fn number(self) -> u64 {
        match self {
            Status::Allocated => 0,
            Status::Active => 1,
            Status::Suspended => 2,
            Status::Retired => 3,
        }
    }

    /// Reads a status number.
    pub fn parse(number: u64) -> Result<Status, Error> {
        [Status::Allocated, Status::Active, Status::Suspended, Status::Retired]
            .into_iter()
            .find(|status| status.number() == number)
            .ok_or_else(|| Error::malformed(format!("unknown status {number}; known: 0 allocated, 1 active, 2 suspended, 3 retired")))
    }

    /// The name used in JSON and on screens.
    pub fn name(self) -> &'static str {
        match self {
            Status::Allocated => "allocated",
            Status::Active => "active",
            Status::Suspended => "suspended",
            Status::Retired => "retired",
        }
    }

    /// Whether the rule allows this move.
    pub fn may_become(self, next: Status) -> bool {
        matches!(
            (self, next),
            (Status::Allocated, Status::Active)
                | (Status::Active, Status::Suspended)
                | (Status::Suspended, Status::Active)
                | (Status::Allocated | Status::Active | Status::Suspended, Status::Retired)
        )
    }
}

/// Where the children of a record live (P11).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Children {
    /// There can be none.
    None = 0,
    /// Under map keys of their own.
    Map = 1,
    /// Single items under map keys of their own.
    Items = 2,
    /// In the sealed table of this record, and as overrides under map keys of their own.
    Table = 3,
}

/// What a registered key may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Purpose {
    /// Signs transactions.
    Transaction = 1,
    /// Votes.
    Consensus = 2,
    /// Cosigns checkpoints.
    Checkpoint = 3,
    /// Identifies a node to its peers.
    Tls = 4,
    /// May object to a recovery.
    Recovery = 5,
    /// Signs statements of the subject outside the chain.
    Assertion = 6,
}

impl Purpose {
    const ALL: [Purpose; 6] =
        [Purpose::Transaction, Purpose::Consensus, Purpose::Checkpoint, Purpose::Tls, Purpose::Recovery, Purpose::Assertion];

    /// The name used in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Purpose::Transaction => "transaction",
            Purpose::Consensus => "consensus",
            Purpose::Checkpoint => "checkpoint",
            Purpose::Tls => "tls",
            Purpose::Recovery => "recovery",
            Purpose::Assertion => "assertion",
        }
    }

    /// Reads a purpose number.
    pub fn parse(number: u64) -> Result<Purpose, Error> {
        Purpose::ALL
            .into_iter()
            .find(|purpose| *purpose as u64 == number)
            .ok_or_else(|| Error::malformed(format!("unknown key purpose {number}; known: 1 to 6")))
    }

    /// Reads a purpose name.
    pub fn from_name(name: &str) -> Result<Purpose, Error> {
        Purpose::ALL.into_iter().find(|purpose| purpose.name() == name).ok_or_else(|| {
            Error::malformed(format!("unknown key purpose {name:?}; known: transaction, consensus, checkpoint, tls, recovery, assertion"))
        })
    }
}

/// A key of a subject, with the heights between which it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyEntry {
    /// The algorithms it belongs to.
    pub suite: Suite,
    /// What it may be used for.
    pub purpose: Purpose,
    /// The public key.
    pub key: [u8; 32],
    /// First height at which it counts.
    pub from: u64,
    /// First height at which it no longer counts.
    pub until: Option<u64>,
}

/// The Merkle table of a sealed range (P41).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Table {
    /// Root of the table.
    pub root: Hash,
    /// 10 or 20.
    pub depth: u8,
    /// Version of the table, from 1.
    pub version: u64,
    /// Height of the block that sealed this version of the table.
    pub height: u64,
    /// How many items of the range have overrides; 0 again after compaction.
    pub overrides: u64,
    /// Digest of the table file.
    pub digest: Hash,
    /// How many leaves are not empty.
    pub count: u64,
}

/// The state of allocation of a (city, class).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allocation {
    /// The lowest million range that nobody holds and that was not opened for thousands in turn, 0 to 1000.
    pub next_million: u64,
    /// The million range whose thousands are handed out.
    pub open_million: Option<u64>,
    /// The next thousand in it, 0 to 1000; one that was reserved is skipped.
    pub next_thousand: u64,
}

/// A recovery that was started and not ended (P54).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// The first height at which the new keys may take over.
    pub due: u64,
    /// The transaction keys from then on, ascending.
    pub keys: Vec<KeyEntry>,
}

/// What a merged or renamed city became, and what became it (P68).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Succession {
    /// The cities that this one continues, ascending.
    pub predecessors: Vec<City>,
    /// The city that continues this one.
    pub successor: Option<City>,
}

/// What governance decides besides the parameters (P70).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configuration {
    /// The cities that decide blocks, ascending.
    pub committee: Vec<City>,
    /// How many member cities vote on proposals: those that are neither retired nor merged into another.
    pub members: u64,
    /// How many of them are suspended.
    pub suspended: u64,
    /// How many proposals were made.
    pub proposals: u64,
    /// `(version, height)`: protocol versions and the heights from which they hold, ascending in both.
    pub protocol: Vec<(u64, u64)>,
}

/// A change that cities vote on (P58).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// The change in CBOR.
    pub change: Vec<u8>,
    /// The cities that agree, ascending.
    pub votes: Vec<City>,
    /// The last height for votes.
    pub until: u64,
}

/// One version of what a map key resolves to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// What it is.
    pub kind: Kind,
    /// From 1.
    pub version: u64,
    /// Height of this version.
    pub height: u64,
    /// Hash of the previous version; none for version 1.
    pub previous: Option<Hash>,
    /// Height of the previous version; none for version 1.
    pub previous_height: Option<u64>,
    /// Where it stands in its life.
    pub status: Status,
    /// Whether the city, not the holder, set the status.
    pub status_by_city: bool,
    /// Where its children live.
    pub children: Children,
    /// Name of a network, city, organisation or category.
    pub name: Option<String>,
    /// Keys of a city or organisation, ascending by purpose and key.
    pub keys: Vec<KeyEntry>,
    /// The city that manages this one, when governance moved it.
    pub administered_by: Option<City>,
    /// `[type, uri]` pairs.
    pub services: Vec<(String, String)>,
    /// Salted commitments by attribute name, in CBOR's order of keys.
    pub commitments: Vec<(String, Hash)>,
    /// Serials that an organisation may hold in each class.
    pub quota: Option<u64>,
    /// Allocation of a (city, class).
    pub allocation: Option<Allocation>,
    /// Holder code of a range, item or key; an item without one is held by the organisation in its code.
    pub holder: Option<String>,
    /// The sealed table of a range.
    pub table: Option<Table>,
    /// Full code of an item, or the code of an alias.
    pub code: Option<String>,
    /// Claims to a foreign code: holder codes.
    pub claims: Vec<String>,
    /// Parameters, in the order of P6.
    pub parameters: Vec<u64>,
    /// Purpose of a key.
    pub purpose: Option<Purpose>,
    /// Serials that an organisation holds in a class.
    pub serials: Option<u64>,
    /// Whether the network is a test network.
    pub test: bool,
    /// Whether items were registered singly in this range (P46).
    pub used: bool,
    /// How many transaction keys must sign for the subject; none stands for 1 (P51).
    pub threshold: Option<u64>,
    /// A recovery that is under way.
    pub recovery: Option<Box<Recovery>>,
    /// Holder code of whoever may accept a transfer (P56).
    pub offered_to: Option<String>,
    /// Of a city.
    pub succession: Option<Box<Succession>>,
    /// The TLS certificate of a city's node, DER, when it came by governance.
    pub certificate: Option<Box<[u8]>>,
    /// SHA-256 of the JSON Schema of a category's items.
    pub schema: Option<Hash>,
    /// Operations of an organisation in a block, when its city set a limit of its own (P72).
    pub rate: Option<u64>,
    /// Of the record of kind 11.
    pub configuration: Option<Box<Configuration>>,
    /// Of a proposal.
    pub proposal: Option<Box<Proposal>>,
    /// The reason code of the operation that made this version.
    pub reason: Option<u64>,
    /// The digest of the decision document that it named.
    pub basis: Option<Hash>,
}

/// The longest record that is ever stored.
pub const MAX_RECORD: usize = 16 * 1024;
/// The most keys that must sign for one subject.
pub const MAX_THRESHOLD: u64 = 16;
/// The longest TLS certificate of a city.
pub const MAX_CERTIFICATE: usize = 1_024;
/// The longest change that cities vote on.
pub const MAX_CHANGE: usize = 8 * 1_024;
/// The most cities in a list of a record.
pub const MAX_CITIES: usize = 1_024;
/// The most protocol versions that a network can have.
pub const MAX_PROTOCOLS: usize = 64;

impl Record {
    /// Version 1 of a record, active, without fields of its kind.
    pub fn new(kind: Kind, height: u64) -> Record {
        Record {
            kind,
            version: 1,
            height,
            previous: None,
            previous_height: None,
            status: Status::Active,
            status_by_city: false,
            children: Children::None,
            name: None,
            keys: Vec::new(),
            administered_by: None,
            services: Vec::new(),
            commitments: Vec::new(),
            quota: None,
            allocation: None,
            holder: None,
            table: None,
            code: None,
            claims: Vec::new(),
            parameters: Vec::new(),
            purpose: None,
            serials: None,
            test: false,
            used: false,
            threshold: None,
            recovery: None,
            offered_to: None,
            succession: None,
            certificate: None,
            schema: None,
            rate: None,
            configuration: None,
            proposal: None,
            reason: None,
            basis: None,
        }
    }

    /// The next version of this record at a height, of which `encoded` are the present bytes: all else stays as it is.
    ///
    /// Two changes in one block are two versions; the store keeps both, so the chain of hashes has no gap.
    pub fn next_version(&self, encoded: &[u8], height: u64) -> Record {
        let mut next = self.clone();
        next.version += 1;
        next.previous = Some(record_hash(encoded));
        next.previous_height = Some(self.height);
        next.height = height;
        next.reason = None;
        next.basis = None;
        next
    }

    /// The keys of a purpose that count at a height.
    pub fn keys_for(&self, purpose: Purpose, height: u64) -> impl Iterator<Item = &[u8; 32]> {
        self.keys
            .iter()
            .filter(move |key| key.purpose == purpose && key.from <= height && key.until.is_none_or(|until| height < until))
            .map(|key| &key.key)
    }
}

/// Tagged hash of a record version, the `previous` of the next one.
pub fn record_hash(encoded: &[u8]) -> Hash {
    tagged(Tag::Record, Suite::Ed25519Sha256, &[encoded])
}
