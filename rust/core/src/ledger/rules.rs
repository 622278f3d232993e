//! What governance has decided for the height after a state: limits, who votes, which protocol (P67, P69, P71).
//!
//! Rules follow from the records of that state alone, the genesis is only the first of them. They are read again when a block writes a
//! city or the record of kind 11, and shared by every height in between.
use super::Ledger;
use crate::block::{Validator, ValidatorSet, NEWEST_PROTOCOL};
use crate::code::City;
use crate::error::Error;
use crate::genesis::Parameters;
use crate::hash::Hash;
use crate::index::Snapshot;
use crate::map_key::{path_of, Kind, MapKey};
use crate::record::{Configuration, Purpose, Record};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The records of a block that rules depend on: encoded map key to the last version written.
pub type Written<'a> = BTreeMap<&'a [u8], &'a [u8]>;

/// See the head of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Limits of the next height.
    pub parameters: Parameters,
    /// Who decides the next height.
    pub validators: Arc<ValidatorSet>,
    /// The hash of that set.
    pub validators_hash: Hash,
    /// Committee, protocol versions and counts.
    pub configuration: Configuration,
    /// Every city that was ever a member.
    pub cities: Arc<BTreeSet<City>>,
}

/// A city that is or was a member.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its code.
    pub city: City,
    /// Whether it votes on blocks.
    pub committee: bool,
    /// Its record.
    pub record: Record,
}

impl Member {
    /// Its key of a purpose of which a city has one at every height: consensus, checkpoint or tls.
    pub fn key(&self, purpose: Purpose) -> Option<[u8; 32]> {
        self.record.keys.iter().find(|entry| entry.purpose == purpose).map(|entry| entry.key)
    }
}

/// Whether the record under an encoded map key is one that rules depend on.
pub fn matters(key: &[u8]) -> bool {
    matches!(key.first(), Some(kind) if *kind == Kind::City as u8 || *kind == Kind::Parameters as u8)
}

impl Rules {
    /// The rules after the state of `height`, whose records `get` finds by their encoded map keys.
    ///
    /// Errors: `Malformed` for a state that no ledger writes.
    pub fn read(height: u64, cities: Arc<BTreeSet<City>>, get: impl Fn(&[u8]) -> Option<Arc<[u8]>>) -> Result<Rules, Error> {
        let record = |key: MapKey<'_>| match get(&key.encode()) {
            Some(bytes) => Record::decode(&bytes),
            None => Err(Error::malformed(format!("a state without its {} record; the store is damaged", key.kind().name()))),
        };
        let parameters = record(MapKey::Parameters)?;
        let values = parameters.parameters.as_slice().try_into();
        let (Ok(values), Some(configuration)) = (values, parameters.configuration) else {
            return Err(Error::malformed("a record of parameters of another length; install the version of this software that wrote it"));
        };
        let mut members = Vec::with_capacity(configuration.committee.len());
        for city in &configuration.committee {
            let record = record(MapKey::City(*city))?;
            let key = record.keys_for(Purpose::Consensus, height.saturating_add(1)).next().copied();
            let key = key.ok_or_else(|| Error::malformed(format!("city {city} of the committee has no consensus key")))?;
            members.push(Validator { city: *city, key });
        }
        let validators = Arc::new(ValidatorSet::new(members)?);
        let validators_hash = validators.hash();
        Ok(Rules { parameters: Parameters::from_values(values)?, validators, validators_hash, configuration: *configuration, cities })
    }

    /// The rules after a block of `height` on `base` that wrote these records; themselves when it wrote none that matters.
    pub fn after(self: &Arc<Rules>, height: u64, written: &Written<'_>, base: &Snapshot) -> Result<Arc<Rules>, Error> {
        if written.is_empty() {
            return Ok(self.clone());
        }
        let mut cities = self.cities.clone();
        for key in written.keys().filter(|key| key[0] == Kind::City as u8) {
            let city = City::parse(std::str::from_utf8(&key[1..]).unwrap_or_default())?;
            if !cities.contains(&city) {
                Arc::make_mut(&mut cities).insert(city);
            }
        }
        let get = |key: &[u8]| written.get(key).map(|record| Arc::from(*record)).or_else(|| base.get(&path_of(key)));
        Rules::read(height, cities, get).map(Arc::new)
    }

    /// Whether a node has to look again at cities, keys, committee, parameters or protocol when `self` follows `before` by these records.
    pub fn differ(&self, before: &Rules, written: &Written<'_>) -> bool {
        let decided = |rules: &Rules| (rules.parameters, rules.configuration.committee.clone(), rules.configuration.protocol.clone());
        written.keys().any(|key| key[0] == Kind::City as u8) || decided(self) != decided(before)
    }

    /// The protocol version of a height that these rules hold for.
    pub fn version_at(&self, height: u64) -> u64 {
        self.configuration.protocol.iter().take_while(|(_, from)| *from <= height).last().map_or(1, |(version, _)| *version)
    }

    /// P67: the protocol version of a height.
    ///
    /// Errors: `Rule` (`unknown_protocol`) when this software does not know its rules.
    pub fn known_version_at(&self, height: u64) -> Result<u64, Error> {
        let version = self.version_at(height);
        if version > NEWEST_PROTOCOL {
            return Err(Error::rule(
                "unknown_protocol",
                format!(
                    "height {height} has protocol version {version}, as the member cities decided, and this software knows versions up to \
                     {NEWEST_PROTOCOL}; install a version that knows it and start again, nothing is lost"
                ),
            ));
        }
        Ok(version)
    }
}

/// The limits on transactions and batches that are as wide as the wider of two parameters say (P71).
pub fn loosest(one: &Parameters, other: &Parameters) -> Parameters {
    Parameters {
        max_transaction_bytes: one.max_transaction_bytes.max(other.max_transaction_bytes),
        max_operations: one.max_operations.max(other.max_operations),
        max_items: one.max_items.max(other.max_items),
        max_batch_bytes: one.max_batch_bytes.max(other.max_batch_bytes),
        max_batch_transactions: one.max_batch_transactions.max(other.max_batch_transactions),
        ..*one
    }
}

impl Ledger {
    /// What governance has decided for the next height.
    pub fn rules(&self) -> Arc<Rules> {
        self.published().rules.clone()
    }

    /// Limits and intervals of the committed state.
    pub fn parameters(&self) -> Parameters {
        self.published().rules.parameters
    }

    /// Who decides the next height.
    pub fn validators(&self) -> Arc<ValidatorSet> {
        self.published().rules.validators.clone()
    }

    /// The protocol version of the next height, whether or not this software knows it.
    pub fn protocol(&self) -> u64 {
        let published = self.published();
        published.rules.version_at(published.height + 1)
    }

    /// Who decides or decided a height up to the next one; of height 0, which nobody decided, who decides the first.
    ///
    /// Errors: `Rule` (`unknown_height`) above that.
    pub fn validators_at(&self, height: u64) -> Result<Arc<ValidatorSet>, Error> {
        let chain = self.chain();
        if height > chain.header.height + 1 {
            return Err(Error::rule(
                "unknown_height",
                format!("who decides height {height} is not known yet; the next height is {}", chain.header.height + 1),
            ));
        }
        let place = chain.sets.partition_point(|(first, _)| *first <= height.max(1));
        Ok(chain.sets[place - 1].1.clone())
    }

    /// Heights above `from_height` whose header names another next set, with that set: what a trust walks over (P75).
    pub fn set_changes(&self, from_height: u64) -> Vec<(u64, Arc<ValidatorSet>)> {
        let chain = self.chain();
        chain.sets.iter().skip(1).map(|(first, set)| (first - 1, set.clone())).filter(|(height, _)| *height > from_height).collect()
    }

    /// The member cities of the committed state, ascending; retired ones too.
    ///
    /// Errors: `Malformed` for a state that no ledger writes.
    pub fn cities(&self) -> Result<Vec<Member>, Error> {
        let published = self.published();
        let committee = &published.rules.configuration.committee;
        let member = |city: &City| {
            let bytes = published.state.get(&MapKey::City(*city).path());
            let bytes = bytes.ok_or_else(|| Error::malformed(format!("city {city} has no record; the store is damaged")))?;
            Ok(Member { city: *city, committee: committee.binary_search(city).is_ok(), record: Record::decode(&bytes)? })
        };
        published.rules.cities.iter().map(member).collect()
    }
}
