//! Records that no code names, as JSON for people and tools: proposals, and what the network has decided about itself.
//!
//! Plain reads of a committed block, without proof: whoever asks believes the node that answers.
use crate::error::Error;
use crate::genesis::Parameters;
use crate::ledger::operation::Change;
use crate::ledger::Published;
use crate::map_key::MapKey;
use crate::record::Record;
use crate::wire::Decoder;
use serde_json::{json, Map, Value};

impl Published {
    /// A proposal with its change in the JSON form of P61 to P68.
    pub fn proposal(&self, number: u64) -> Result<Option<Value>, Error> {
        let Some(record) = self.record(&MapKey::Proposal(number))? else { return Ok(None) };
        let mut value = record.to_json();
        value["number"] = json!(number.to_string());
        if let Some(proposal) = &record.proposal {
            let mut decoder = Decoder::new(&proposal.change);
            value["change"] = Change::decode(&mut decoder)?.to_json();
        }
        Ok(Some(value))
    }

    /// Parameters by name, committee, number of members and proposals, protocol versions (P70).
    pub fn configuration(&self) -> Result<Value, Error> {
        let record = self.record(&MapKey::Parameters)?.ok_or_else(|| Error::malformed("a state without parameters; it is damaged"))?;
        let mut value = record.to_json();
        let named = Parameters::NAMES.iter().zip(&record.parameters).map(|((name, ..), value)| ((*name).to_owned(), json!(value)));
        value["parameters"] = named.collect::<Map<_, _>>().into();
        Ok(value)
    }

    fn record(&self, key: &MapKey<'_>) -> Result<Option<Record>, Error> {
        self.state.get(&key.path()).map(|bytes| Record::decode(&bytes)).transpose()
    }
}
