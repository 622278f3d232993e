//! JSON views of records, headers, receipts and transactions, for people and tools. Nothing here is ever hashed or parsed back.
//!
//! Heights, versions and times are strings where they are 64-bit (JSON numbers lose precision above 2^53); bytes are hexadecimal.
use crate::answer;
use crate::block::Header;
use crate::code::{City, Subject};
use crate::error::Error;
use crate::hash::hex;
use crate::ledger::execute::Output;
use crate::ledger::operation::{commitments_json, services_json, Operation};
use crate::ledger::stored::{Outcome, Receipt};
use crate::ledger::transaction::Transaction;
use crate::ledger::Published;
use crate::record::{Children, KeyEntry, Record, Status};
use serde_json::{json, Map, Value};

impl Record {
    /// The record as JSON; fields that it does not have are left out.
    pub fn to_json(&self) -> Value {
        let mut fields = Map::new();
        let mut put = |name: &str, value: Value| fields.insert(name.to_owned(), value);
        put("kind", json!(self.kind.name()));
        put("version", json!(self.version.to_string()));
        put("height", json!(self.height.to_string()));
        if let Some(previous) = &self.previous {
            put("previous", json!(hex(previous)));
        }
        if let Some(height) = self.previous_height {
            put("previous_height", json!(height.to_string()));
        }
        put("status", json!(self.status.name()));
        if self.status_by_city {
            put("status_by_city", json!(true));
        }
        match self.children {
            Children::None => {}
            Children::Map => drop(put("children", json!("map"))),
            Children::Items => drop(put("children", json!("items"))),
            Children::Table => drop(put("children", json!("table"))),
        }
        if let Some(code) = &self.code {
            put("code", json!(code));
        }
        if let Some(name) = &self.name {
            put("name", json!(name));
        }
        if self.test {
            put("test", json!(true));
        }
        if let Some(holder) = &self.holder {
            put("holder", json!(holder));
        }
        if !self.keys.is_empty() {
            put("keys", keys_json(&self.keys));
        }
        if let Some(purpose) = self.purpose {
            put("purpose", json!(purpose.name()));
        }
        if let Some(city) = &self.administered_by {
            put("administered_by", json!(city.as_str()));
        }
        if !self.services.is_empty() {
            put("services", services_json(&self.services));
        }
        if !self.commitments.is_empty() {
            put("commitments", commitments_json(&self.commitments));
        }
        if let Some(quota) = self.quota {
            put("quota", json!(quota.to_string()));
        }
        if let Some(serials) = self.serials {
            put("serials", json!(serials.to_string()));
        }
        if let Some(allocation) = &self.allocation {
            put(
                "allocation",
                json!({"next_million": allocation.next_million, "open_million": allocation.open_million, "next_thousand": allocation.next_thousand}),
            );
        }
        if let Some(table) = &self.table {
            put(
                "table",
                json!({
                    "root": hex(&table.root), "depth": table.depth, "version": table.version.to_string(),
                    "height": table.height.to_string(), "overrides": table.overrides.to_string(), "digest": hex(&table.digest), "count": table.count,
                }),
            );
        }
        if !self.claims.is_empty() {
            put("claims", json!(self.claims));
        }
        if !self.parameters.is_empty() {
            put("parameters", json!(self.parameters));
        }
        if self.used {
            put("used", json!(true));
        }
        if let Some(threshold) = self.threshold {
            put("threshold", json!(threshold));
        }
        if let Some(recovery) = &self.recovery {
            put("recovery", json!({"due": recovery.due.to_string(), "keys": keys_json(&recovery.keys)}));
        }
        if let Some(receiver) = &self.offered_to {
            put("offered_to", json!(receiver));
        }
        if let Some(succession) = &self.succession {
            put("predecessors", cities_json(&succession.predecessors));
            put("successor", json!(succession.successor.as_ref().map(|city| city.as_str())));
        }
        if let Some(certificate) = &self.certificate {
            put("certificate", json!(hex(certificate)));
        }
        if let Some(schema) = &self.schema {
            put("schema", json!(hex(schema)));
        }
        if let Some(rate) = self.rate {
            put("rate", json!(rate.to_string()));
        }
        if let Some(configuration) = &self.configuration {
            put("committee", cities_json(&configuration.committee));
            put("members", json!(configuration.members));
            put("suspended", json!(configuration.suspended));
            put("proposals", json!(configuration.proposals.to_string()));
            let protocol = configuration.protocol.iter().map(|(version, height)| json!([version, height.to_string()]));
            put("protocol", protocol.collect());
        }
        if let Some(proposal) = &self.proposal {
            put("change", json!(hex(&proposal.change)));
            put("votes", cities_json(&proposal.votes));
            put("until", json!(proposal.until.to_string()));
        }
        if let Some(reason) = self.reason {
            put("reason", json!(reason));
        }
        if let Some(basis) = &self.basis {
            put("basis", json!(hex(basis)));
        }
        Value::Object(fields)
    }
}

fn keys_json(keys: &[KeyEntry]) -> Value {
    keys.iter()
        .map(|key| {
            json!({
                "suite": key.suite as u8, "purpose": key.purpose.name(), "key": hex(&key.key), "from": key.from.to_string(),
                "until": key.until.map(|until| until.to_string()),
            })
        })
        .collect()
}

fn cities_json(cities: &[City]) -> Value {
    cities.iter().map(|city| json!(city.as_str())).collect()
}

impl Header {
    /// The header as JSON.
    pub fn to_json(&self) -> Value {
        json!({
            "version": self.version, "genesis": hex(&self.genesis), "height": self.height.to_string(), "time_ms": self.time_ms.to_string(), "parent": hex(&self.parent),
            "batches_root": hex(&self.batches_root), "transactions_root": hex(&self.transactions_root), "receipts_root": hex(&self.receipts_root),
            "state_root": hex(&self.state_root), "validators": hex(&self.validators), "next_validators": hex(&self.next_validators),
            "proposer": self.proposer.as_str(),
        })
    }
}

impl Transaction {
    /// The transaction as JSON.
    pub fn to_json(&self) -> Value {
        json!({
            "id": hex(&self.id), "genesis": hex(&self.body.genesis), "valid_until": self.body.valid_until.to_string(), "nonce": hex(&self.body.nonce),
            "signers": self.body.signers.iter().map(|signer| hex(signer)).collect::<Vec<_>>(),
            "operations": self.body.operations.iter().map(Operation::to_json).collect::<Vec<_>>(),
        })
    }
}

impl Receipt {
    /// The receipt as JSON, with the height of its block.
    pub fn to_json(&self, height: u64) -> Value {
        let (id, height) = (hex(&self.id), height.to_string());
        match &self.outcome {
            Outcome::Committed(outputs) => {
                let outputs: Vec<Value> = outputs
                    .iter()
                    .map(|output| match output {
                        Output::None => Value::Null,
                        Output::Range(base, size) => json!({"base": base, "size": size}),
                        Output::Proposal(number) => json!({"proposal": number}),
                    })
                    .collect();
                json!({"id": id, "height": height, "status": "committed", "outputs": outputs})
            }
            Outcome::Rejected(reason, operation) => {
                json!({"id": id, "height": height, "status": "rejected", "reason": reason, "operation": operation})
            }
            Outcome::Duplicate => json!({"id": id, "height": height, "status": "duplicate"}),
        }
    }
}

impl Published {
    /// What this block says of a subject, without proof: verdict, effective status, record, height and time.
    ///
    /// Errors: `Rule` (`not_ready`) at height 0; [`Error::Code`] when a member city's code is mistyped.
    pub fn resolve(&self, subject: &Subject) -> Result<Value, Error> {
        self.resolve_with_tables(subject, &|_, _| None)
    }

    /// The same, with the sealed tables at hand.
    pub fn resolve_with_tables(&self, subject: &Subject, tables: answer::TableLookup<'_>) -> Result<Value, Error> {
        if self.certified.is_none() {
            return Err(Error::rule("not_ready", "no block has been certified yet; ask again after the first block"));
        }
        let found = answer::resolve(subject, &*self.state, tables)?;
        Ok(json!({
            "subject": subject.to_string(), "verdict": found.verdict.name(), "status": found.status.map(Status::name), "code": found.code,
            "height": self.height.to_string(), "as_of": self.time_ms.to_string(), "notes": found.notes,
            "record": found.record.as_ref().map(Record::to_json),
        }))
    }
}
