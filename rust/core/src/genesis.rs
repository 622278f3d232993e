//! The genesis: the first state of a network, read from its JSON file and hashed in canonical CBOR (P4 to P7).
use crate::block::{Validator, ValidatorSet, MAX_VALIDATORS, MIN_VALIDATORS};
use crate::code::City;
use crate::error::Error;
use crate::hash::{hex, tagged, Hash, Suite, Tag};
use crate::json;
use crate::map_key::{Kind, MapKey};
use crate::profile::name_fault;
use crate::record::{Children, Configuration, KeyEntry, Purpose, Record};
use crate::signature;
use crate::wire::Encoder;
use serde_json::{json, Value};

/// The longest genesis or trust file.
pub const MAX_FILE: usize = 1 << 20;
/// The only prefix there is: ISO/IEC 15459 agency MA, country 156.
pub const PREFIX: &str = "MA.156";

/// Limits and intervals of a network (P6). All are integers; `from_values` and `values` keep the order of [`Parameters::NAMES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameters {
    /// Longest time between blocks, milliseconds.
    pub heartbeat_ms: u64,
    /// Heights for which a transaction stays valid and its id is remembered.
    pub window: u64,
    /// Longest transaction.
    pub max_transaction_bytes: u64,
    /// Most operations of a transaction.
    pub max_operations: u64,
    /// Most items of a transaction.
    pub max_items: u64,
    /// Longest batch.
    pub max_batch_bytes: u64,
    /// Most transactions of a batch.
    pub max_batch_transactions: u64,
    /// Most bytes of batches in a block.
    pub max_block_bytes: u64,
    /// Most batches in a block.
    pub max_block_batches: u64,
    /// Most services of a subject.
    pub max_services: u64,
    /// Most commitments of a subject.
    pub max_commitments: u64,
    /// For how long a trust file can be relied on without an update, seconds.
    pub trust_period_s: u64,
    /// Storage receipts that a seal needs.
    pub receipts: u64,
    /// Longest table file.
    pub max_table_bytes: u64,
    /// Heights between the start and the end of a recovery (P54).
    pub recovery_delay: u64,
    /// Heights for which cities may vote on a proposal (P59).
    pub proposal_window: u64,
    /// Operations of an organisation in a block (P72).
    pub organisation_rate: u64,
    /// Operations of a city in a block (P72).
    pub city_rate: u64,
}

impl Default for Parameters {
    fn default() -> Self {
        Parameters {
            heartbeat_ms: 10_000,
            window: 2_000,
            max_transaction_bytes: 65_536,
            max_operations: 256,
            max_items: 1_000,
            max_batch_bytes: 1 << 20,
            max_batch_transactions: 4_096,
            max_block_bytes: 8 << 20,
            max_block_batches: 256,
            max_services: 8,
            max_commitments: 32,
            trust_period_s: 2_592_000,
            receipts: 2,
            max_table_bytes: 256 << 20,
            recovery_delay: 1_000,
            proposal_window: 10_000,
            organisation_rate: 65_536,
            city_rate: 65_536,
        }
    }
}

impl Parameters {
    /// The names, in the order of P6, each with the least and the greatest value that a genesis may set.
    pub const NAMES: [(&'static str, u64, u64); 18] = [
        ("heartbeat_ms", 100, 600_000),
        ("window", 10, 1_000_000),
        ("max_transaction_bytes", 1_024, 1 << 20),
        ("max_operations", 1, 4_096),
        ("max_items", 1, 10_000),
        ("max_batch_bytes", 65_536, 8 << 20),
        ("max_batch_transactions", 1, 65_536),
        ("max_block_bytes", 65_536, 64 << 20),
        ("max_block_batches", 1, 4_096),
        ("max_services", 0, 64),
        ("max_commitments", 0, 256),
        ("trust_period_s", 3_600, 31_536_000),
        ("receipts", 0, 100),
        ("max_table_bytes", 65_536, 4 << 30),
        ("recovery_delay", 1, 10_000_000),
        ("proposal_window", 1, 10_000_000),
        ("organisation_rate", 1, 1 << 32),
        ("city_rate", 16, 1 << 32),
    ];

    /// The values in the order of [`Parameters::NAMES`].
    pub fn values(&self) -> [u64; 18] {
        [
            self.heartbeat_ms,
            self.window,
            self.max_transaction_bytes,
            self.max_operations,
            self.max_items,
            self.max_batch_bytes,
            self.max_batch_transactions,
            self.max_block_bytes,
            self.max_block_batches,
            self.max_services,
            self.max_commitments,
            self.trust_period_s,
            self.receipts,
            self.max_table_bytes,
            self.recovery_delay,
            self.proposal_window,
            self.organisation_rate,
            self.city_rate,
        ]
    }

    /// Checks the bounds and that limits nest.
    pub fn from_values(values: [u64; 18]) -> Result<Parameters, Error> {
        for ((name, least, most), value) in Parameters::NAMES.iter().zip(values) {
            if value < *least || value > *most {
                return Err(Error::malformed(format!("parameter {name} is {value}; it takes {least} to {most}")));
            }
        }
        let [heartbeat_ms, window, max_transaction_bytes, max_operations, max_items, max_batch_bytes, max_batch_transactions, max_block_bytes, max_block_batches, max_services, max_commitments, trust_period_s, receipts, max_table_bytes, recovery_delay, proposal_window, organisation_rate, city_rate] =
            values;
        let parameters = Parameters {
            heartbeat_ms,
            window,
            max_transaction_bytes,
            max_operations,
            max_items,
            max_batch_bytes,
            max_batch_transactions,
            max_block_bytes,
            max_block_batches,
            max_services,
            max_commitments,
            trust_period_s,
            receipts,
            max_table_bytes,
            recovery_delay,
            proposal_window,
            organisation_rate,
            city_rate,
        };
        if max_batch_bytes < max_transaction_bytes + 16 || max_block_bytes < max_batch_bytes {
            return Err(Error::malformed(
                "parameters that do not nest: a batch must hold the largest transaction, a block the largest batch",
            ));
        }
        Ok(parameters)
    }
}

/// One founding city.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundingCity {
    /// Its code.
    pub city: City,
    /// Its name.
    pub name: String,
    /// Votes with this key.
    pub consensus: [u8; 32],
    /// Cosigns checkpoints with this key.
    pub checkpoint: [u8; 32],
    /// Identifies its node to peers with this key.
    pub tls: [u8; 32],
    /// Signs transactions with these keys, ascending.
    pub transaction: Vec<[u8; 32]>,
}

/// The genesis of a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Genesis {
    /// Its name.
    pub name: String,
    /// Whether it is a test network.
    pub test: bool,
    /// Time of block 0, milliseconds since 1970 (UTC).
    pub time_ms: u64,
    /// Limits and intervals.
    pub parameters: Parameters,
    /// The founding cities, ascending by code.
    pub cities: Vec<FoundingCity>,
}

impl Genesis {
    /// Reads a genesis file.
    pub fn from_json(text: &str) -> Result<Genesis, Error> {
        let mut object = json::parse_object(text, MAX_FILE, "a genesis file")?;
        object.expect_text("cityid", "genesis")?;
        let name = object.text("name")?;
        object.expect_text("prefix", PREFIX)?;
        Suite::parse(object.uint("suite")?)?;
        let test = object.flag("test")?;
        let time_ms = object.uint("time_ms")?;
        let mut given = object.object("parameters")?;
        let mut values = [0; 18];
        for (value, (name, ..)) in values.iter_mut().zip(Parameters::NAMES) {
            *value = given.uint(name)?;
        }
        given.end()?;
        let mut cities = Vec::new();
        for mut city in object.objects("cities", MAX_VALIDATORS)? {
            let mut transaction = Vec::new();
            for key in city.texts("transaction", 16)? {
                transaction.push(json::fixed_hex(&key)?);
            }
            cities.push(FoundingCity {
                city: City::parse(&city.text("city")?)?,
                name: city.text("name")?,
                consensus: json::fixed_hex(&city.text("consensus")?)?,
                checkpoint: json::fixed_hex(&city.text("checkpoint")?)?,
                tls: json::fixed_hex(&city.text("tls")?)?,
                transaction,
            });
            city.end()?;
        }
        object.end()?;
        let genesis = Genesis { name, test, time_ms, parameters: Parameters::from_values(values)?, cities };
        genesis.check()?;
        Ok(genesis)
    }

    /// Every city and key once, every key fit for registration (P4, P17).
    fn check(&self) -> Result<(), Error> {
        if !(MIN_VALIDATORS..=MAX_VALIDATORS).contains(&self.cities.len()) {
            return Err(Error::malformed(format!(
                "a genesis with {} cities; it takes {MIN_VALIDATORS} to {MAX_VALIDATORS}, so that one faulty city can be tolerated",
                self.cities.len()
            )));
        }
        // A name that records cannot hold would make a network whose records cannot be read.
        for name in self.cities.iter().map(|city| &city.name).chain([&self.name]) {
            if let Some(fault) = name_fault(name) {
                return Err(Error::malformed(format!("the name {name:?} cannot stand in a genesis: {fault}")));
            }
        }
        let mut keys = Vec::new();
        for city in &self.cities {
            if city.transaction.is_empty() {
                return Err(Error::malformed(format!("city {} has no transaction key; it could never sign anything", city.city)));
            }
            keys.extend([city.consensus, city.checkpoint, city.tls]);
            keys.extend(&city.transaction);
        }
        for key in &keys {
            signature::is_acceptable_for_registration(key)
                .map_err(|_| Error::malformed(format!("key {} is of small order or not canonical; make a new one", hex(key))))?;
        }
        keys.sort_unstable();
        if let Some(pair) = keys.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(Error::malformed(format!("key {} stands twice; every purpose and every city has a key of its own", hex(&pair[0]))));
        }
        self.validators().map(|_| ())
    }

    /// The file, with fields in a fixed order.
    pub fn to_json(&self) -> String {
        let parameters: serde_json::Map<String, Value> =
            Parameters::NAMES.iter().zip(self.parameters.values()).map(|((name, ..), value)| ((*name).to_owned(), json!(value))).collect();
        let cities: Vec<Value> = self
            .cities
            .iter()
            .map(|city| {
                json!({
                    "city": city.city.as_str(), "name": city.name, "consensus": hex(&city.consensus), "checkpoint": hex(&city.checkpoint),
                    "tls": hex(&city.tls), "transaction": city.transaction.iter().map(|key| hex(key)).collect::<Vec<_>>(),
                })
            })
            .collect();
        json::pretty(&json!({
            "cityid": "genesis", "name": self.name, "prefix": PREFIX, "suite": Suite::Ed25519Sha256 as u8, "test": self.test,
            "time_ms": self.time_ms.to_string(), "parameters": parameters, "cities": cities,
        }))
    }

    /// The canonical bytes (P5).
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::with_capacity(256 * self.cities.len());
        out.array(7).text(&self.name).text(PREFIX).uint(Suite::Ed25519Sha256 as u64).uint(u64::from(self.test)).uint(self.time_ms);
        out.array(Parameters::NAMES.len());
        for value in self.parameters.values() {
            out.uint(value);
        }
        out.array(self.cities.len());
        for city in &self.cities {
            out.array(6).text(city.city.as_str()).text(&city.name).bytes(&city.consensus).bytes(&city.checkpoint).bytes(&city.tls);
            out.array(city.transaction.len());
            for key in &city.transaction {
                out.bytes(key);
            }
        }
        out.finish()
    }

    /// The genesis hash.
    pub fn hash(&self) -> Hash {
        tagged(Tag::Genesis, Suite::Ed25519Sha256, &[&self.encode()])
    }

    /// The first validator set: all founding cities.
    pub fn validators(&self) -> Result<ValidatorSet, Error> {
        ValidatorSet::new(self.cities.iter().map(|city| Validator { city: city.city, key: city.consensus }).collect())
    }

    /// The records of block 0: network, parameters, every city and every key, as (encoded map key, record).
    pub fn records(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut network = Record::new(Kind::Network, 0);
        network.name = Some(self.name.clone());
        network.test = self.test;
        network.children = Children::Map;
        let mut parameters = Record::new(Kind::Parameters, 0);
        parameters.parameters = self.parameters.values().to_vec();
        parameters.configuration = Some(Box::new(Configuration {
            committee: self.cities.iter().map(|city| city.city).collect(),
            members: self.cities.len() as u64,
            suspended: 0,
            proposals: 0,
            protocol: vec![(1, 0)],
        }));
        let mut records = vec![(MapKey::Network.encode(), network.encode()), (MapKey::Parameters.encode(), parameters.encode())];
        for founding in &self.cities {
            let mut keys: Vec<KeyEntry> = founding
                .transaction
                .iter()
                .map(|key| (Purpose::Transaction, *key))
                .chain([(Purpose::Consensus, founding.consensus), (Purpose::Checkpoint, founding.checkpoint), (Purpose::Tls, founding.tls)])
                .map(|(purpose, key)| KeyEntry { suite: Suite::Ed25519Sha256, purpose, key, from: 0, until: None })
                .collect();
            keys.sort_unstable_by_key(|entry| (entry.purpose, entry.key));
            for entry in &keys {
                let mut key = Record::new(Kind::Key, 0);
                key.holder = Some(format!("{PREFIX}.{}", founding.city));
                key.purpose = Some(entry.purpose);
                records.push((MapKey::Key(&entry.key).encode(), key.encode()));
            }
            let mut city = Record::new(Kind::City, 0);
            city.name = Some(founding.name.clone());
            city.children = Children::Map;
            city.keys = keys;
            records.push((MapKey::City(founding.city).encode(), city.encode()));
        }
        records
    }
}
