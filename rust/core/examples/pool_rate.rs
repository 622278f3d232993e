//! How fast transactions pass through the pool: queued, then sealed into batches, for one sender and for many.
//!
//! ```text
//! cargo run --release -p cityid-core --example pool_rate -- [transactions] [repetitions]
//! ```
use cityid_core::code::{Category, City, Class, Model, Org, Serial, Use};
use cityid_core::error::Error;
use cityid_core::hash::sha256;
use cityid_core::ledger::operation::{Action, Holder, NewItem, Operation};
use cityid_core::ledger::pool::{Pool, Verified};
use cityid_core::ledger::transaction::{assemble, Body, Transaction};
use cityid_core::record::Status;
use std::time::Instant;

fn main() -> Result<(), Error> {
    let mut arguments = std::env::args().skip(1).filter_map(|argument| argument.parse::<usize>().ok());
    let (count, repetitions) = (arguments.next().unwrap_or(20_000), arguments.next().unwrap_or(11));
    for senders in [1, 10, 1_000] {
        let mut nanos = Vec::new();
        for _ in 0..repetitions {
            let waiting = (0..count).map(|number| transaction(number, number % senders)).collect::<Result<Vec<_>, _>>()?;
            let mut pool = Pool::default();
            let start = Instant::now();
            for verified in waiting {
                pool.push(verified)?;
            }
            let mut sealed = 0;
            while let Some(batch) = pool.seal(4_096, 1 << 20) {
                sealed += batch.transactions.len();
                pool.remove(&batch.digest);
            }
            nanos.push(start.elapsed().as_nanos() / count as u128);
            if sealed != count {
                return Err(Error::malformed(format!("{sealed} of {count} transactions were sealed")));
            }
        }
        nanos.sort_unstable();
        println!(
            "{count} transactions of {senders} senders: {} ns each (median of {repetitions}; {} to {})",
            nanos[nanos.len() / 2],
            nanos[0],
            nanos[nanos.len() - 1]
        );
    }
    Ok(())
}

/// One item registered by one of the organisations of a city.
fn transaction(number: usize, sender: usize) -> Result<Verified, Error> {
    let holder = Holder { city: City::parse("130100")?, org: Some(Org::parse(&format!("A{sender:05}"))?) };
    let category = Category { use_: Use::parse("60")?, class: Class::parse("010203")?, model: Model::parse("1")? };
    let commitments = vec![("location".to_owned(), sha256(&number.to_be_bytes()))];
    let item = NewItem { serial: Serial::new(number as u32)?, status: Status::Active, commitments, services: Vec::new() };
    let operations = vec![Operation { action: Action::RegisterItems { holder, category, items: vec![item] }, reason: None, basis: None }];
    let key = sha256(&sender.to_le_bytes());
    let body = Body { genesis: [0; 32], valid_until: 100, nonce: number.to_be_bytes().to_vec(), signers: vec![key], operations };
    let bytes = assemble(&body.encode(), &[[0; 64]]);
    let transaction = Transaction { id: sha256(&number.to_le_bytes()), body, signatures: vec![[0; 64]] };
    Ok(Verified { sender: Some(holder), transaction, bytes })
}
