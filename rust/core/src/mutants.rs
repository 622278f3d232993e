//! Rules broken on purpose, one at a time, so that the checks can be seen to find it (decision record 0020).
//!
//! Only the Cargo feature `mutants` makes any of it possible, and no build that anybody installs has the feature: without it
//! [`planted`] is constant false and what stands behind it is compiled away. What can be planted from outside, in Python,
//! has no place here (`python/cityid/testing/mutants`).
use crate::error::Error;
#[cfg(feature = "mutants")]
use std::sync::atomic::{AtomicU8, Ordering};

/// A bug that can be planted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Mutant {
    /// A validator prevotes for a valid proposal although it is locked on another value.
    LockRuleMissing = 1,
    /// One vote less than a quorum decides.
    QuorumOffByOne,
    /// A certificate may hold one validator's vote many times, and each of them counts.
    DuplicateVoteCounted,
    /// Consensus takes every signature for good.
    BadSignatureAccepted,
    /// Batches of other cities are taken in with whatever signatures they have.
    BatchNotChecked,
    /// After a restart it is forgotten which transactions were included.
    ReplayWindowForgotten,
    /// Trust goes on believing the cities that a header replaces.
    RetiredSetAccepted,
}

impl Mutant {
    /// Every one, in order.
    pub const ALL: [Mutant; 7] = [
        Mutant::LockRuleMissing,
        Mutant::QuorumOffByOne,
        Mutant::DuplicateVoteCounted,
        Mutant::BadSignatureAccepted,
        Mutant::BatchNotChecked,
        Mutant::ReplayWindowForgotten,
        Mutant::RetiredSetAccepted,
    ];

    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Mutant::LockRuleMissing => "lock-rule-missing",
            Mutant::QuorumOffByOne => "quorum-off-by-one",
            Mutant::DuplicateVoteCounted => "duplicate-vote-counted",
            Mutant::BadSignatureAccepted => "bad-signature-accepted",
            Mutant::BatchNotChecked => "batch-not-checked",
            Mutant::ReplayWindowForgotten => "replay-window-forgotten",
            Mutant::RetiredSetAccepted => "retired-set-accepted",
        }
    }

    /// Reads a name.
    pub fn parse(name: &str) -> Result<Mutant, Error> {
        let found = Mutant::ALL.into_iter().find(|mutant| mutant.name() == name);
        found.ok_or_else(|| Error::malformed(format!("no mutant is called {name:?}; see `cityid mutants`")))
    }
}

/// Which one is planted in this process; 0 for none.
#[cfg(feature = "mutants")]
static PLANTED: AtomicU8 = AtomicU8::new(0);

/// Plants a bug in this process, or takes it out.
#[cfg(feature = "mutants")]
pub fn plant(mutant: Option<Mutant>) {
    PLANTED.store(mutant.map_or(0, |mutant| mutant as u8), Ordering::Relaxed);
}

/// Whether this bug is planted.
#[cfg(feature = "mutants")]
pub fn planted(mutant: Mutant) -> bool {
    PLANTED.load(Ordering::Relaxed) == mutant as u8
}

/// Whether this bug is planted: never, in this build.
#[cfg(not(feature = "mutants"))]
pub const fn planted(_: Mutant) -> bool {
    false
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_and_others_refused() {
        for mutant in Mutant::ALL {
            assert_eq!(Mutant::parse(mutant.name()), Ok(mutant));
        }
        assert!(Mutant::parse("coffee").unwrap_err().to_string().contains("coffee"));
    }

    #[cfg(not(feature = "mutants"))]
    #[test]
    fn nothing_is_planted_in_this_build() {
        assert!(!Mutant::ALL.into_iter().any(planted));
    }

    #[cfg(feature = "mutants")]
    #[test]
    fn one_at_a_time_is_planted() {
        assert!(!Mutant::ALL.into_iter().any(planted));
        plant(Some(Mutant::BatchNotChecked));
        assert_eq!(Mutant::ALL.into_iter().filter(|mutant| planted(*mutant)).collect::<Vec<_>>(), [Mutant::BatchNotChecked]);
        plant(None);
        assert!(!Mutant::ALL.into_iter().any(planted));
    }
}
