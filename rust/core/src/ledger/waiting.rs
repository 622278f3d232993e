//! Transactions that wait to be sealed, a queue for each sender (P72).
//!
//! A sender is the subject to whom the first registered key among the signers belongs; whoever signs with keys that nobody registered
//! shares one queue with all others who do. Rules:
//! - Senders are served in turns by bytes (deficit round robin: M. Shreedhar and G. Varghese, "Efficient Fair Queuing Using Deficit
//!   Round Robin", SIGCOMM 1995), each sender's transactions in the order in which they came. So one who has much waiting delays the
//!   others by a turn, and sealing costs the same whatever waits.
//! - A sender may fill as much as is still free, no more: alone a half, of n who fill what they can each 1 / (n + 1) of all, and whoever
//!   comes next finds as much.
//! - The order follows from the calls alone; hash tables are only looked up.
use super::operation::Holder;
use super::transaction::Transaction;
use crate::error::Error;
use crate::hash::Hash;
use std::collections::{HashMap, HashSet, VecDeque};

/// Most bytes of memory for transactions that wait to be sealed.
pub const MAX_WAITING_BYTES: usize = 128 << 20;
/// How many bytes a sender may seal in a turn.
const TURN: usize = 4 << 10;

/// A transaction whose signatures verified, with its bytes.
#[derive(Debug)]
pub struct Verified {
    /// Whose it is: a city or an organisation; none when nobody registered a key that signed it.
    pub sender: Option<Holder>,
    /// Parsed form.
    pub transaction: Transaction,
    /// Encoded form.
    pub bytes: Vec<u8>,
}

impl Verified {
    /// Bytes of memory: encoded, and parsed with its texts.
    pub(super) fn memory(&self) -> usize {
        2 * self.bytes.len() + self.transaction.memory()
    }
}

/// What one sender has waiting; never empty.
#[derive(Debug, Default)]
struct Queue {
    transactions: VecDeque<Verified>,
    memory: usize,
    /// Bytes that it may still seal in this turn.
    credit: usize,
}

/// See the head of the file.
#[derive(Debug, Default)]
pub struct Waiting {
    queues: HashMap<Option<Holder>, Queue>,
    /// Every sender with a queue, once; the first one has its turn.
    turns: VecDeque<Option<Holder>>,
    ids: HashSet<Hash>,
    bytes: usize,
    memory: usize,
}

impl Waiting {
    /// Transactions and bytes.
    pub fn size(&self) -> (usize, usize) {
        (self.ids.len(), self.bytes)
    }

    /// Refuses what has no room. One that waits already needs none.
    pub fn check_room(&self, verified: &Verified) -> Result<(), Error> {
        if self.ids.contains(&verified.transaction.id) {
            return Ok(());
        }
        let memory = verified.memory();
        let free = MAX_WAITING_BYTES.saturating_sub(self.memory);
        if memory > free {
            return Err(Error::rule(
                "overloaded",
                format!("transactions wait already that fill {MAX_WAITING_BYTES} bytes; send it again in a moment"),
            ));
        }
        let own = self.queues.get(&verified.sender).map_or(0, |queue| queue.memory);
        if own + memory > free {
            return Err(Error::rule(
                "pool_share",
                format!(
                    "{own} bytes of this sender wait already, and {free} are left for everybody; send it again when some are in a block"
                ),
            ));
        }
        Ok(())
    }

    /// Queues a transaction; whether it was not waiting already.
    pub fn push(&mut self, verified: Verified) -> bool {
        let is_new = self.ids.insert(verified.transaction.id);
        if is_new {
            let memory = verified.memory();
            self.bytes += verified.bytes.len();
            self.memory += memory;
            let queue = self.queues.entry(verified.sender).or_default();
            if queue.transactions.is_empty() {
                queue.credit = TURN;
                self.turns.push_back(verified.sender);
            }
            queue.memory += memory;
            queue.transactions.push_back(verified);
        }
        is_new
    }

    /// Takes the next transaction in turn, unless it is longer than `room` bytes.
    pub fn pop(&mut self, room: usize) -> Option<Verified> {
        loop {
            let sender = *self.turns.front()?;
            let queue = self.queues.get_mut(&sender)?;
            let length = queue.transactions.front()?.bytes.len();
            if length > queue.credit {
                // Its turn is over. What it could not use it keeps, so that a long one comes through after some turns.
                queue.credit += TURN;
                self.turns.rotate_left(1);
                continue;
            }
            if length > room {
                return None;
            }
            let next = queue.transactions.pop_front()?;
            let memory = next.memory();
            queue.credit -= length;
            queue.memory -= memory;
            if queue.transactions.is_empty() {
                self.queues.remove(&sender);
                self.turns.pop_front();
            }
            self.ids.remove(&next.transaction.id);
            self.bytes -= length;
            self.memory -= memory;
            return Some(next);
        }
    }

    #[cfg(test)]
    pub fn memory(&self) -> usize {
        self.memory
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::code::{City, Org};
    use crate::hash::sha256;
    use crate::ledger::operation::{Action, Operation};
    use crate::ledger::transaction::Body;

    fn holder(number: usize) -> Option<Holder> {
        Some(Holder { city: City::parse("130100").unwrap(), org: Some(Org::parse(&format!("A{number:05}")).unwrap()) })
    }

    fn transaction(sender: Option<Holder>, number: usize, length: usize) -> Verified {
        let action = Action::Vote { city: City::parse("130100").unwrap(), proposal: 1 };
        let operations = vec![Operation { action, reason: None, basis: None }];
        let body = Body { genesis: [0; 32], valid_until: 1, nonce: vec![0; 8], signers: vec![[0; 32]], operations };
        let id = sha256(format!("{sender:?} {number}").as_bytes());
        Verified { sender, transaction: Transaction { id, body, signatures: vec![[0; 64]] }, bytes: vec![0; length] }
    }

    fn reason(result: Result<(), Error>) -> &'static str {
        match result {
            Err(Error::Rule { reason, .. }) => reason,
            _ => "",
        }
    }

    #[test]
    fn senders_are_served_in_turns_and_each_in_order() {
        let mut waiting = Waiting::default();
        for number in 0..1_000 {
            assert!(waiting.push(transaction(holder(1), number, 200)));
        }
        for number in 0..3 {
            waiting.push(transaction(holder(2), number, 200));
        }
        waiting.push(transaction(None, 0, 200));
        assert!(!waiting.push(transaction(None, 0, 200)));
        let order: Vec<(Option<Holder>, Hash)> =
            std::iter::from_fn(|| waiting.pop(usize::MAX)).map(|next| (next.sender, next.transaction.id)).collect();
        assert_eq!(order.len(), 1_004);
        let last = |sender| order.iter().rposition(|(who, _)| *who == sender).unwrap();
        assert!(last(holder(2)) < 30 && last(None) < 30, "one turn of the first sender stands before them");
        for sender in [holder(1), holder(2)] {
            let ids: Vec<Hash> = order.iter().filter(|(who, _)| *who == sender).map(|(_, id)| *id).collect();
            let sent: Vec<Hash> = (0..ids.len()).map(|number| transaction(sender, number, 200).transaction.id).collect();
            assert_eq!(ids, sent);
        }
        assert_eq!((waiting.size(), waiting.memory, waiting.queues.len(), waiting.turns.len()), ((0, 0), 0, 0, 0));
    }

    #[test]
    fn turns_are_measured_in_bytes_and_a_long_one_comes_through() {
        let mut waiting = Waiting::default();
        for number in 0..200 {
            waiting.push(transaction(holder(1), number, 60_000));
            for small in 0..40 {
                waiting.push(transaction(holder(2), number * 40 + small, 400));
            }
        }
        let mut bytes = [0, 0];
        for _ in 0..1_000 {
            let next = waiting.pop(usize::MAX).unwrap();
            bytes[usize::from(next.sender == holder(2))] += next.bytes.len();
        }
        assert!(bytes[0] > 100_000 && bytes[0].abs_diff(bytes[1]) < 100_000, "{bytes:?}");
        // What does not fit stays, and has its turn in the next batch.
        let before = waiting.size();
        assert!(waiting.pop(10).is_none());
        assert_eq!(waiting.size(), before);
    }

    #[test]
    fn a_sender_fills_what_is_left_and_leaves_as_much() {
        let mut waiting = Waiting::default();
        let mut fill = |sender, wanted: &str| {
            for number in 0..300 {
                let next = transaction(sender, number, 1 << 20);
                match waiting.check_room(&next) {
                    Ok(()) => assert!(waiting.push(next)),
                    error => {
                        assert_eq!(reason(error), wanted);
                        return waiting.queues[&sender].memory;
                    }
                }
            }
            unreachable!("no bound")
        };
        let shares = [fill(holder(1), "pool_share"), fill(holder(2), "pool_share"), fill(None, "pool_share")];
        let part = |n: usize| MAX_WAITING_BYTES / n;
        for (share, most) in shares.into_iter().zip([part(2), part(4), part(8)]) {
            assert!(share < most + (3 << 20) && share + (5 << 20) > most, "{shares:?}");
        }
        waiting.memory = MAX_WAITING_BYTES;
        assert_eq!(reason(waiting.check_room(&transaction(holder(3), 0, 10))), "overloaded");
        assert!(waiting.check_room(&transaction(holder(1), 0, 1 << 20)).is_ok(), "what waits already is no more");
    }
}
