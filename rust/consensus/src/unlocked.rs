//! A validator without the lock rule, for the tests that must find it (feature `mutants`, decision record 0020).
//!
//! Malachite keeps its lock to itself, and refuses with a nil prevote. So the vote is changed where it is signed: to a prevote
//! for the proposal of the round, if that is here and valid. Malachite counts what comes back, as its own.
use crate::context::{Network, Value, Vote};
use cityid_core::mutants::{planted, Mutant};
use malachitebft_core_consensus::Input;
use malachitebft_core_types::{NilOrVal, Round, Validity, ValueOrigin, VoteType};
use std::collections::{BTreeMap, BTreeSet};

/// What has been proposed at the present height.
#[derive(Default)]
pub(crate) struct Unlocked {
    proposed: BTreeMap<Round, Value>,
    valid: BTreeSet<(Round, Value)>,
}

impl Unlocked {
    /// An input is about to be worked on.
    pub fn note(&mut self, input: &Input<Network>) {
        match input {
            Input::StartHeight(..) => *self = Unlocked::default(),
            Input::Proposal(proposal) => {
                self.proposed.insert(proposal.round, proposal.value);
            }
            Input::ProposedValue(proposed, ValueOrigin::Consensus) if proposed.validity == Validity::Valid => {
                self.valid.insert((proposed.round, proposed.value));
            }
            _ => {}
        }
    }

    /// The vote that is signed instead of this one.
    pub fn vote(&self, vote: Vote) -> Vote {
        let refuses = vote.vote_type == VoteType::Prevote && vote.value == NilOrVal::Nil;
        let proposed = self.proposed.get(&vote.round).filter(|value| self.valid.contains(&(vote.round, **value)));
        match proposed {
            Some(value) if refuses && planted(Mutant::LockRuleMissing) => Vote { value: NilOrVal::Val(*value), ..vote },
            _ => vote,
        }
    }
}
