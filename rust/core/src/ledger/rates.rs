//! How much each city and organisation does in a block (P72).
//!
//! A charge stands whatever becomes of the operation, so that refused ones cannot be repeated without end. Only a subject whose signature
//! was found is charged: nobody can use up another's rate. The table has at most one entry for each operation of a block.
use super::operation::Holder;
use crate::code::Code;
use std::collections::HashMap;

/// What the subjects of a block did so far.
#[derive(Debug, Default)]
pub struct Charges {
    used: HashMap<Holder, u64>,
    /// What the running operation counts, and who was charged for it.
    weight: u64,
    charged: Vec<Holder>,
    /// What was done by the own keys of items, and by those who object to a recovery.
    own: HashMap<Code, u64>,
}

/// How often in a block an item may act by its own keys, and whoever may object to a recovery: apart from all else that is charged,
/// so that neither an item uses up its holder's rate nor a thief the rate with which the theft is ended.
pub const OWN_RATE: u64 = 16;

impl Charges {
    /// The next operation, which counts as much as the items it is on.
    pub fn begin(&mut self, items: usize) {
        self.weight = (items as u64).max(1);
        self.charged.clear();
    }

    /// Charges a subject for the running operation, once; how much it has used now.
    pub fn charge(&mut self, subject: &Holder) -> u64 {
        let used = self.used.entry(*subject).or_default();
        if !self.charged.contains(subject) {
            self.charged.push(*subject);
            *used = used.saturating_add(self.weight);
        }
        *used
    }

    /// Charges a subject for what is counted apart from its other operations; how much of that it has used now.
    pub fn charge_own(&mut self, subject: &Code) -> u64 {
        let used = self.own.entry(subject.clone()).or_default();
        *used = used.saturating_add(self.weight);
        *used
    }
}
