//! The bytes of a record (P11, P13): canonical CBOR, and which fields a kind has.
//!
//! One table, `fields_of`, says which fields a kind requires and allows, so that a decoder refuses a field that has no business
//! there. What says nothing is left out: there is one encoding of each meaning.
use super::{Allocation, Children, Configuration, KeyEntry, Proposal, Purpose, Record, Recovery, Status, Succession, Table};
use super::{MAX_CERTIFICATE, MAX_CHANGE, MAX_CITIES, MAX_PROTOCOLS, MAX_RECORD, MAX_THRESHOLD};
use crate::code::City;
use crate::error::Error;
use crate::hash::{Hash, Suite};
use crate::map_key::Kind;
use crate::wire::{text_order, Decoder, Encoder, MAX_TEXT};

const MAX_KEYS: usize = 64;
const MAX_SERVICES: usize = 64;
const MAX_COMMITMENTS: usize = 256;
const MAX_PARAMETERS: usize = 64;

mod field {
    pub const KIND: u64 = 0;
    pub const VERSION: u64 = 1;
    pub const HEIGHT: u64 = 2;
    pub const PREVIOUS: u64 = 3;
    pub const STATUS: u64 = 4;
    pub const STATUS_BY_CITY: u64 = 5;
    pub const CHILDREN: u64 = 6;
    pub const PREVIOUS_HEIGHT: u64 = 7;
    pub const NAME: u64 = 8;
    pub const KEYS: u64 = 9;
    pub const ADMINISTERED_BY: u64 = 10;
    pub const SERVICES: u64 = 11;
    pub const COMMITMENTS: u64 = 12;
    pub const QUOTA: u64 = 13;
    pub const ALLOCATION: u64 = 14;
    pub const HOLDER: u64 = 15;
    pub const TABLE: u64 = 16;
    pub const CODE: u64 = 17;
    pub const CLAIMS: u64 = 18;
    pub const PARAMETERS: u64 = 19;
    pub const PURPOSE: u64 = 20;
    pub const SERIALS: u64 = 21;
    pub const TEST: u64 = 22;
    pub const USED: u64 = 23;
    pub const THRESHOLD: u64 = 24;
    pub const RECOVERY: u64 = 25;
    pub const OFFERED_TO: u64 = 26;
    pub const SUCCESSION: u64 = 27;
    pub const CERTIFICATE: u64 = 28;
    pub const SCHEMA: u64 = 29;
    pub const RATE: u64 = 30;
    pub const CONFIGURATION: u64 = 31;
    pub const PROPOSAL: u64 = 32;
    pub const REASON: u64 = 33;
    pub const BASIS: u64 = 34;
}

/// The fields of a kind beyond those that all share: (required, allowed).
fn fields_of(kind: Kind) -> (&'static [u64], &'static [u64]) {
    use field::*;
    match kind {
        Kind::Network => (&[NAME], &[TEST]),
        Kind::City => (&[NAME, KEYS], &[ADMINISTERED_BY, SERVICES, COMMITMENTS, THRESHOLD, RECOVERY, SUCCESSION, CERTIFICATE]),
        Kind::Organisation => (&[NAME, KEYS, QUOTA], &[SERVICES, COMMITMENTS, THRESHOLD, RECOVERY, RATE]),
        Kind::Category => (&[NAME], &[SERVICES, COMMITMENTS, SCHEMA]),
        Kind::Class => (&[ALLOCATION], &[]),
        Kind::Million | Kind::Thousand => (&[], &[HOLDER, TABLE, USED, OFFERED_TO]),
        Kind::Item => (&[CODE], &[HOLDER, SERVICES, COMMITMENTS, KEYS, THRESHOLD, RECOVERY, OFFERED_TO]),
        Kind::Alias => (&[CODE], &[]),
        Kind::Foreign => (&[CLAIMS], &[]),
        Kind::Parameters => (&[PARAMETERS, CONFIGURATION], &[]),
        Kind::Key => (&[HOLDER, PURPOSE], &[]),
        Kind::Holding => (&[SERIALS], &[]),
        Kind::District => (&[ADMINISTERED_BY], &[]),
        Kind::Proposal => (&[HOLDER, PROPOSAL], &[]),
    }
}

impl Record {
    /// The canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        use field::*;
        let mut pairs = 4;
        let mut body = Encoder::with_capacity(256);
        body.uint(KIND).uint(self.kind as u64).uint(VERSION).uint(self.version).uint(HEIGHT).uint(self.height);
        if let Some(previous) = &self.previous {
            pairs += 1;
            body.uint(PREVIOUS).bytes(previous);
        }
        body.uint(STATUS).uint(self.status.number());
        let mut begin = |body: &mut Encoder, field: u64, present: bool| {
            if present {
                pairs += 1;
                body.uint(field);
            }
            present
        };
        if begin(&mut body, STATUS_BY_CITY, self.status_by_city) {
            body.uint(1);
        }
        if begin(&mut body, CHILDREN, self.children != Children::None) {
            body.uint(self.children as u64);
        }
        if let Some(height) = self.previous_height.filter(|_| begin(&mut body, PREVIOUS_HEIGHT, self.previous_height.is_some())) {
            body.uint(height);
        }
        if let Some(name) = self.name.as_ref().filter(|_| begin(&mut body, NAME, self.name.is_some())) {
            body.text(name);
        }
        if begin(&mut body, KEYS, !self.keys.is_empty()) {
            encode_keys(&mut body, &self.keys);
        }
        if let Some(city) = self.administered_by.as_ref().filter(|_| begin(&mut body, ADMINISTERED_BY, self.administered_by.is_some())) {
            body.text(city.as_str());
        }
        if begin(&mut body, SERVICES, !self.services.is_empty()) {
            body.array(self.services.len());
            for (kind, uri) in &self.services {
                body.array(2).text(kind).text(uri);
            }
        }
        if begin(&mut body, COMMITMENTS, !self.commitments.is_empty()) {
            body.map(self.commitments.len());
            for (name, commitment) in &self.commitments {
                body.text(name).bytes(commitment);
            }
        }
        if let Some(quota) = self.quota.filter(|_| begin(&mut body, QUOTA, self.quota.is_some())) {
            body.uint(quota);
        }
        if let Some(allocation) = self.allocation.filter(|_| begin(&mut body, ALLOCATION, self.allocation.is_some())) {
            body.array(3).uint(allocation.next_million);
            match allocation.open_million {
                Some(million) => body.uint(million),
                None => body.null(),
            };
            body.uint(allocation.next_thousand);
        }
        if let Some(holder) = self.holder.as_ref().filter(|_| begin(&mut body, HOLDER, self.holder.is_some())) {
            body.text(holder);
        }
        if let Some(table) = self.table.filter(|_| begin(&mut body, TABLE, self.table.is_some())) {
            body.array(7).bytes(&table.root).uint(u64::from(table.depth)).uint(table.version).uint(table.height).uint(table.overrides);
            body.bytes(&table.digest).uint(table.count);
        }
        if let Some(code) = self.code.as_ref().filter(|_| begin(&mut body, CODE, self.code.is_some())) {
            body.text(code);
        }
        if begin(&mut body, CLAIMS, !self.claims.is_empty()) {
            body.array(self.claims.len());
            for claim in &self.claims {
                body.text(claim);
            }
        }
        if begin(&mut body, PARAMETERS, !self.parameters.is_empty()) {
            body.array(self.parameters.len());
            for parameter in &self.parameters {
                body.uint(*parameter);
            }
        }
        if let Some(purpose) = self.purpose.filter(|_| begin(&mut body, PURPOSE, self.purpose.is_some())) {
            body.uint(purpose as u64);
        }
        if let Some(serials) = self.serials.filter(|_| begin(&mut body, SERIALS, self.serials.is_some())) {
            body.uint(serials);
        }
        if begin(&mut body, TEST, self.test) {
            body.uint(1);
        }
        if begin(&mut body, USED, self.used) {
            body.uint(1);
        }
        if let Some(threshold) = self.threshold.filter(|_| begin(&mut body, THRESHOLD, self.threshold.is_some())) {
            body.uint(threshold);
        }
        if let Some(recovery) = self.recovery.as_ref().filter(|_| begin(&mut body, RECOVERY, self.recovery.is_some())) {
            body.array(2).uint(recovery.due);
            encode_keys(&mut body, &recovery.keys);
        }
        if let Some(receiver) = self.offered_to.as_ref().filter(|_| begin(&mut body, OFFERED_TO, self.offered_to.is_some())) {
            body.text(receiver);
        }
        if let Some(succession) = self.succession.as_ref().filter(|_| begin(&mut body, SUCCESSION, self.succession.is_some())) {
            body.array(2);
            encode_cities(&mut body, &succession.predecessors);
            match &succession.successor {
                Some(city) => body.text(city.as_str()),
                None => body.null(),
            };
        }
        if let Some(certificate) = self.certificate.as_ref().filter(|_| begin(&mut body, CERTIFICATE, self.certificate.is_some())) {
            body.bytes(certificate);
        }
        if let Some(schema) = self.schema.filter(|_| begin(&mut body, SCHEMA, self.schema.is_some())) {
            body.bytes(&schema);
        }
        if let Some(rate) = self.rate.filter(|_| begin(&mut body, RATE, self.rate.is_some())) {
            body.uint(rate);
        }
        if let Some(configuration) = self.configuration.as_ref().filter(|_| begin(&mut body, CONFIGURATION, self.configuration.is_some())) {
            body.array(5);
            encode_cities(&mut body, &configuration.committee);
            body.uint(configuration.members)
                .uint(configuration.suspended)
                .uint(configuration.proposals)
                .array(configuration.protocol.len());
            for (version, height) in &configuration.protocol {
                body.array(2).uint(*version).uint(*height);
            }
        }
        if let Some(proposal) = self.proposal.as_ref().filter(|_| begin(&mut body, PROPOSAL, self.proposal.is_some())) {
            body.array(3).bytes(&proposal.change);
            encode_cities(&mut body, &proposal.votes);
            body.uint(proposal.until);
        }
        if let Some(reason) = self.reason.filter(|_| begin(&mut body, REASON, self.reason.is_some())) {
            body.uint(reason);
        }
        if let Some(basis) = self.basis.filter(|_| begin(&mut body, BASIS, self.basis.is_some())) {
            body.bytes(&basis);
        }
        let body = body.finish();
        let mut out = Encoder::with_capacity(body.len() + 2);
        out.map(pairs).raw(&body);
        out.finish()
    }

    /// Reads a record; refuses anything not canonical, fields that the kind does not have and the lack of those it needs.
    pub fn decode(bytes: &[u8]) -> Result<Record, Error> {
        use field::*;
        if bytes.len() > MAX_RECORD {
            return Err(Error::malformed(format!("a record of {} bytes, more than the limit of {MAX_RECORD}", bytes.len())));
        }
        let mut decoder = Decoder::new(bytes);
        let count = decoder.map(64)?;
        let mut record = Record::new(Kind::Network, 0);
        let mut seen: u64 = 0;
        let mut last = None;
        for _ in 0..count {
            let key = decoder.key_after(last)?;
            last = Some(key);
            match key {
                KIND => record.kind = Kind::parse(decoder.uint()?)?,
                VERSION => record.version = decoder.uint()?,
                HEIGHT => record.height = decoder.uint()?,
                PREVIOUS => record.previous = Some(decoder.hash()?),
                STATUS => record.status = Status::parse(decoder.uint()?)?,
                STATUS_BY_CITY => record.status_by_city = flag(&mut decoder)?,
                CHILDREN => {
                    record.children = match decoder.uint()? {
                        1 => Children::Map,
                        2 => Children::Items,
                        3 => Children::Table,
                        other => {
                            return Err(Error::malformed(format!("unknown place of children {other}; known: 1 map, 2 items, 3 table")))
                        }
                    }
                }
                PREVIOUS_HEIGHT => record.previous_height = Some(decoder.uint()?),
                NAME => record.name = Some(decoder.text(MAX_TEXT)?.to_owned()),
                KEYS => record.keys = decode_keys(&mut decoder)?,
                ADMINISTERED_BY => record.administered_by = Some(City::parse(decoder.text(6)?)?),
                SERVICES => record.services = decode_services(&mut decoder, MAX_SERVICES)?,
                COMMITMENTS => record.commitments = decode_commitments(&mut decoder, MAX_COMMITMENTS)?,
                QUOTA => record.quota = Some(decoder.uint()?),
                ALLOCATION => {
                    decoder.array_of(3)?;
                    let next_million = decoder.uint_to(1000)?;
                    let open_million = if decoder.null() { None } else { Some(decoder.uint_to(999)?) };
                    record.allocation = Some(Allocation { next_million, open_million, next_thousand: decoder.uint_to(1000)? });
                }
                HOLDER => record.holder = Some(decoder.text(MAX_TEXT)?.to_owned()),
                TABLE => record.table = Some(decode_table(&mut decoder)?),
                CODE => record.code = Some(decoder.text(MAX_TEXT)?.to_owned()),
                CLAIMS => {
                    let count = not_empty(decoder.array(64)?)?;
                    for _ in 0..count {
                        record.claims.push(decoder.text(MAX_TEXT)?.to_owned());
                    }
                }
                PARAMETERS => {
                    let count = not_empty(decoder.array(MAX_PARAMETERS)?)?;
                    for _ in 0..count {
                        record.parameters.push(decoder.uint()?);
                    }
                }
                PURPOSE => record.purpose = Some(Purpose::parse(decoder.uint()?)?),
                SERIALS => record.serials = Some(decoder.uint()?),
                TEST => record.test = flag(&mut decoder)?,
                USED => record.used = flag(&mut decoder)?,
                THRESHOLD => record.threshold = Some(decoder.uint_to(MAX_THRESHOLD)?),
                RECOVERY => {
                    decoder.array_of(2)?;
                    record.recovery = Some(Box::new(Recovery { due: decoder.uint()?, keys: decode_keys(&mut decoder)? }));
                }
                OFFERED_TO => record.offered_to = Some(decoder.text(MAX_TEXT)?.to_owned()),
                SUCCESSION => {
                    decoder.array_of(2)?;
                    let predecessors = decode_cities(&mut decoder)?;
                    let successor = if decoder.null() { None } else { Some(City::parse(decoder.text(6)?)?) };
                    record.succession = Some(Box::new(Succession { predecessors, successor }));
                }
                CERTIFICATE => record.certificate = Some(decoder.bytes(MAX_CERTIFICATE)?.into()),
                SCHEMA => record.schema = Some(decoder.hash()?),
                RATE => record.rate = Some(decoder.uint()?),
                CONFIGURATION => record.configuration = Some(Box::new(decode_configuration(&mut decoder)?)),
                PROPOSAL => {
                    decoder.array_of(3)?;
                    let change = decoder.bytes(MAX_CHANGE)?.to_vec();
                    record.proposal = Some(Box::new(Proposal { change, votes: decode_cities(&mut decoder)?, until: decoder.uint()? }));
                }
                REASON => record.reason = Some(decoder.uint()?),
                BASIS => record.basis = Some(decoder.hash()?),
                other => return Err(Error::malformed(format!("unknown record field {other}"))),
            }
            seen |= 1 << key;
        }
        decoder.end()?;
        record.check_fields(seen)?;
        Ok(record)
    }

    fn check_fields(&self, seen: u64) -> Result<(), Error> {
        use field::*;
        let bits = |fields: &[u64]| fields.iter().fold(0u64, |mask, field| mask | 1 << field);
        let (required, allowed) = fields_of(self.kind);
        let shared = bits(&[KIND, VERSION, HEIGHT, STATUS]);
        let needed = shared | bits(required);
        let possible = needed | bits(&[PREVIOUS, STATUS_BY_CITY, CHILDREN, PREVIOUS_HEIGHT, REASON, BASIS]) | bits(allowed);
        let name = self.kind.name();
        if seen & needed != needed {
            return Err(Error::malformed(format!("a {name} record lacks a field that it needs; see docs/cityid.cddl")));
        }
        if seen & !possible != 0 {
            return Err(Error::malformed(format!("a {name} record has a field that its kind does not have; see docs/cityid.cddl")));
        }
        if self.version == 0 || (self.version == 1) != self.previous.is_none() {
            return Err(Error::malformed(format!("a {name} record of version {} does not fit its previous hash", self.version)));
        }
        if self.previous_height.is_some() != self.previous.is_some() || self.previous_height.is_some_and(|height| height > self.height) {
            return Err(Error::malformed(format!("a {name} record whose previous version has no height, or a later one")));
        }
        // One encoding of each meaning: what says nothing is left out.
        let says_nothing = self.threshold.is_some_and(|threshold| threshold < 2)
            || self.succession.as_deref().is_some_and(|succession| *succession == Succession::default());
        if says_nothing {
            return Err(Error::malformed(format!("a {name} record with a threshold below 2 or an empty succession; leave it out")));
        }
        if self.table.is_some_and(|table| table.height > self.height) {
            return Err(Error::malformed(format!("a {name} record holds a table that was sealed after the record was written")));
        }
        if (self.children == Children::Table) != self.table.is_some() {
            return Err(Error::malformed(format!(
                "a {name} record says its children live in a table that it does not have, or the reverse"
            )));
        }
        Ok(())
    }
}

fn flag(decoder: &mut Decoder<'_>) -> Result<bool, Error> {
    match decoder.uint()? {
        1 => Ok(true),
        other => Err(Error::malformed(format!("a flag of {other}; a flag that is not set is left out, one that is set is 1"))),
    }
}

/// A list that is left out when it is empty must not be there empty.
fn not_empty(count: usize) -> Result<usize, Error> {
    if count == 0 {
        return Err(Error::malformed("an empty list; a list without items is left out"));
    }
    Ok(count)
}

fn encode_keys(out: &mut Encoder, keys: &[KeyEntry]) {
    out.array(keys.len());
    for key in keys {
        out.array(5).uint(key.suite as u64).uint(key.purpose as u64).bytes(&key.key).uint(key.from);
        match key.until {
            Some(until) => out.uint(until),
            None => out.null(),
        };
    }
}

fn encode_cities(out: &mut Encoder, cities: &[City]) {
    out.array(cities.len());
    for city in cities {
        out.text(city.as_str());
    }
}

/// Cities that ascend.
fn decode_cities(decoder: &mut Decoder<'_>) -> Result<Vec<City>, Error> {
    let count = decoder.list(MAX_CITIES, 7)?;
    let mut cities: Vec<City> = Vec::with_capacity(count);
    for _ in 0..count {
        let city = City::parse(decoder.text(6)?)?;
        if cities.last().is_some_and(|last| *last >= city) {
            return Err(Error::malformed("cities that are repeated or not ascending"));
        }
        cities.push(city);
    }
    Ok(cities)
}

fn decode_configuration(decoder: &mut Decoder<'_>) -> Result<Configuration, Error> {
    decoder.array_of(5)?;
    let committee = decode_cities(decoder)?;
    let members = decoder.uint()?;
    let suspended = decoder.uint()?;
    let proposals = decoder.uint()?;
    let count = not_empty(decoder.list(MAX_PROTOCOLS, 3)?)?;
    let mut protocol: Vec<(u64, u64)> = Vec::with_capacity(count);
    for _ in 0..count {
        decoder.array_of(2)?;
        let next = (decoder.uint()?, decoder.uint()?);
        if protocol.last().is_some_and(|last| last.0 >= next.0 || last.1 >= next.1) {
            return Err(Error::malformed("protocol versions that do not ascend with their heights"));
        }
        protocol.push(next);
    }
    Ok(Configuration { committee, members, suspended, proposals, protocol })
}

fn decode_keys(decoder: &mut Decoder<'_>) -> Result<Vec<KeyEntry>, Error> {
    let count = not_empty(decoder.list(MAX_KEYS, 39)?)?;
    let mut keys: Vec<KeyEntry> = Vec::with_capacity(count);
    for _ in 0..count {
        decoder.array_of(5)?;
        let suite = Suite::parse(decoder.uint()?)?;
        let purpose = Purpose::parse(decoder.uint()?)?;
        let key = decoder.fixed()?;
        let from = decoder.uint()?;
        let until = if decoder.null() { None } else { Some(decoder.uint()?) };
        if keys.last().is_some_and(|last| (last.purpose, last.key) >= (purpose, key)) {
            return Err(Error::malformed("keys that are repeated or not ascending by purpose and key"));
        }
        keys.push(KeyEntry { suite, purpose, key, from, until });
    }
    Ok(keys)
}

fn decode_table(decoder: &mut Decoder<'_>) -> Result<Table, Error> {
    decoder.array_of(7)?;
    let root = decoder.hash()?;
    let depth = decoder.uint()?;
    if depth != 10 && depth != 20 {
        return Err(Error::malformed(format!("a table of depth {depth}; known: 10 and 20")));
    }
    Ok(Table {
        root,
        depth: depth as u8,
        version: decoder.uint()?,
        height: decoder.uint()?,
        overrides: decoder.uint()?,
        digest: decoder.hash()?,
        count: decoder.uint_to(1 << depth)?,
    })
}

/// Reads `[type, uri]` pairs; at least one.
pub(crate) fn decode_services(decoder: &mut Decoder<'_>, limit: usize) -> Result<Vec<(String, String)>, Error> {
    let count = not_empty(decoder.list(limit, 3)?)?;
    let mut services = Vec::with_capacity(count);
    for _ in 0..count {
        decoder.array_of(2)?;
        services.push((decoder.text(64)?.to_owned(), decoder.text(MAX_TEXT)?.to_owned()));
    }
    Ok(services)
}

/// Reads commitments by attribute name; at least one.
pub(crate) fn decode_commitments(decoder: &mut Decoder<'_>, limit: usize) -> Result<Vec<(String, Hash)>, Error> {
    let count = not_empty(decoder.map_list(limit, 35)?)?;
    let mut commitments: Vec<(String, Hash)> = Vec::with_capacity(count);
    for _ in 0..count {
        let name = decoder.text(64)?;
        if commitments.last().is_some_and(|(last, _)| text_order(last, name).is_ge()) {
            return Err(Error::malformed("attribute names that are repeated or out of order"));
        }
        commitments.push((name.to_owned(), decoder.hash()?));
    }
    Ok(commitments)
}
