//! How fast a block is executed: transactions of some items each on a committed state, without signatures and without the state tree.
//!
//! ```text
//! cargo run --release -p cityid-core --example execute_rate -- [items] [repetitions] [items of a transaction]
//! ```
use cityid_core::code::{Category, City, Class, Model, Org, Serial, Use};
use cityid_core::error::Error;
use cityid_core::genesis::Parameters;
use cityid_core::hash::{sha256, Suite};
use cityid_core::index::StateMap;
use cityid_core::ledger::execute::execute;
use cityid_core::ledger::operation::{Action, Holder, NewItem, Operation};
use cityid_core::ledger::overlay::last_versions;
use cityid_core::ledger::transaction::{Body, Transaction};
use cityid_core::map_key::{Kind, MapKey};
use cityid_core::record::{Children, KeyEntry, Purpose, Record, Status};
use std::time::Instant;

const HEIGHT: u64 = 2;

fn main() -> Result<(), Error> {
    let mut arguments = std::env::args().skip(1).filter_map(|argument| argument.parse::<usize>().ok());
    let (count, repetitions) = (arguments.next().unwrap_or(10_000), arguments.next().unwrap_or(15));
    let each = arguments.next().unwrap_or(1).max(1);
    let city = City::parse("130100")?;
    let org = Org::parse("A7K2")?;
    let holder = Holder { city, org: Some(org) };
    let category = Category { use_: Use::parse("60")?, class: Class::parse("010203")?, model: Model::parse("1")? };
    let key = [7; 32];

    let named = |kind, children| {
        let mut record = Record::new(kind, 1);
        (record.name, record.children) = (Some("name".to_owned()), children);
        record.keys = vec![KeyEntry { suite: Suite::Ed25519Sha256, purpose: Purpose::Transaction, key, from: 0, until: None }];
        record
    };
    let mut network = named(Kind::Network, Children::Map);
    network.keys.clear();
    let mut organisation = named(Kind::Organisation, Children::Map);
    organisation.quota = Some(1_000_000);
    let mut kind = named(Kind::Category, Children::None);
    kind.keys.clear();
    let mut million = Record::new(Kind::Million, 1);
    (million.holder, million.children) = (Some(holder.code().text()), Children::Items);
    let first = Serial::new(0)?;
    let records = [
        (MapKey::Network, network),
        (MapKey::City(city), named(Kind::City, Children::Map)),
        (MapKey::Organisation(city, org), organisation),
        (MapKey::Category(city, Some(org), category), kind),
        (MapKey::Million(city, category.class, first), million),
    ];
    let state = StateMap::new(1);
    let base = state.commit(state.candidate(records.iter().map(|(key, record)| (key.path(), Some(record.encode().into()))).collect())?)?;

    let item = |number: usize| {
        let commitments = vec![("location".to_owned(), sha256(&number.to_be_bytes()))];
        Ok(NewItem { serial: Serial::new(number as u32)?, status: Status::Active, commitments, services: Vec::new() })
    };
    let transactions: Vec<Transaction> = (0..count)
        .step_by(each)
        .map(|number| {
            let items = (number..count.min(number + each)).map(item).collect::<Result<_, Error>>()?;
            let action = Action::RegisterItems { holder, category, items };
            let operations = vec![Operation { action, reason: None, basis: None }];
            let body = Body { genesis: [0; 32], valid_until: HEIGHT, nonce: vec![0; 8], signers: vec![key], operations };
            Ok(Transaction { id: sha256(&number.to_le_bytes()), body, signatures: Vec::new() })
        })
        .collect::<Result<_, Error>>()?;

    let mut micros = Vec::new();
    for _ in 0..repetitions {
        let start = Instant::now();
        let executed = execute(&base, HEIGHT, &Parameters::default(), transactions.iter(), |_| false);
        micros.push(start.elapsed().as_micros());
        if executed.committed != transactions.len() {
            return Err(Error::malformed(format!("{} of {} transactions took effect", executed.committed, transactions.len())));
        }
        // What the block gives to the state, outside the measured part: every item once, and the range that has single items now.
        if last_versions(&executed.changes).len() != count + 1 {
            return Err(Error::malformed("an item was written twice"));
        }
    }
    micros.sort_unstable();
    let rate = |micros: u128| count as u128 * 1_000_000 / micros.max(1);
    println!(
        "{count} register operations: {} per second (median of {repetitions}; {} to {})",
        rate(micros[micros.len() / 2]),
        rate(micros[micros.len() - 1]),
        rate(micros[0])
    );
    Ok(())
}
