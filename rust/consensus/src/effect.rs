//! What the engine asks of the node. The node obeys in the order given, with one rule of its own: what is to be logged is
//! durable before anything later in the same list leaves the machine (P37).
use cityid_core::error::Error;
use cityid_core::hash::Hash;
use malachitebft_core_types::TimeoutKind;

/// One thing for the node to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Append this entry to the log of this height, durably, before obeying what follows.
    Log {
        /// Height whose log it belongs to.
        height: u64,
        /// The entry, as [`crate::Engine::recover`] wants it back.
        entry: Vec<u8>,
    },
    /// Send this message to every other validator.
    Publish(Vec<u8>),
    /// Call [`crate::Engine::timeout`] after this time; replaces an earlier timer of the same kind and round.
    Timer {
        /// Which timer.
        kind: TimerKind,
        /// Round it belongs to.
        round: i32,
        /// Time to wait, in microseconds.
        duration_us: u64,
    },
    /// Forget this timer, if it runs.
    Cancel {
        /// Which timer.
        kind: TimerKind,
        /// Round it belongs to.
        round: i32,
    },
    /// Forget all timers.
    CancelAll,
    /// A round begins.
    StartRound {
        /// Height of the round.
        height: u64,
        /// The round.
        round: i32,
        /// Position of its proposer in the validator set.
        proposer: u16,
        /// What this node does in it.
        role: Role,
    },
    /// Build a value and give it to [`crate::Engine::propose`] before the propose timer of this round fires.
    GetValue {
        /// Height to build.
        height: u64,
        /// Round to propose it in.
        round: i32,
    },
    /// Send the block of this value again, as a proposal of this round.
    Restream {
        /// Height of the value.
        height: u64,
        /// Round of the proposal.
        round: i32,
        /// Earlier round with a quorum of prevotes for it, or −1.
        valid_round: i32,
        /// The value.
        value: Hash,
    },
    /// This height is decided.
    Decide {
        /// Decided height.
        height: u64,
        /// Round of the decision.
        round: i32,
        /// Decided value.
        value: Hash,
        /// Commit certificate, in its wire form.
        certificate: Vec<u8>,
    },
    /// Nothing more happens at this height; the next may start.
    Finalize {
        /// The height.
        height: u64,
        /// Commit certificate, in its wire form.
        certificate: Vec<u8>,
        /// Proof of every double vote or double proposal seen at this height.
        evidence: Vec<Evidence>,
    },
    /// The certificate of a fetched value is good: execute its block and give the verdict to
    /// [`crate::Engine::proposed_value`] with `sync` set.
    SyncVerified {
        /// Certified height.
        height: u64,
        /// Certified round.
        round: i32,
        /// Certified value.
        value: Hash,
        /// Position of the proposer of that round.
        proposer: u16,
    },
    /// The certificate of a fetched value is not good, or is for something else.
    SyncRejected {
        /// Height the certificate claims.
        height: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// Something was refused; consensus goes on.
    Error {
        /// What, why, and what to do.
        reason: String,
        /// Position in the inbox of the message that is to blame, if it was one.
        position: Option<usize>,
    },
    /// The engine stopped and does nothing more: this node must not vote until it is restarted through recovery.
    Fatal(String),
}

/// The timers of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum TimerKind {
    /// No proposal came: prevote nil.
    Propose = 0,
    /// Prevotes disagree: precommit nil.
    Prevote = 1,
    /// Precommits disagree: next round.
    Precommit = 2,
    /// Nothing moves: send the last votes again.
    Rebroadcast = 3,
}

impl TimerKind {
    /// The name that the node's driver uses.
    pub const fn name(self) -> &'static str {
        match self {
            TimerKind::Propose => "propose",
            TimerKind::Prevote => "prevote",
            TimerKind::Precommit => "precommit",
            TimerKind::Rebroadcast => "rebroadcast",
        }
    }

    /// Reads a name.
    pub fn parse(name: &str) -> Result<TimerKind, Error> {
        ALL.into_iter()
            .find(|kind| kind.name() == name)
            .ok_or_else(|| Error::malformed(format!("unknown timer {name:?}; known: propose, prevote, precommit, rebroadcast")))
    }

    pub(crate) fn from_byte(byte: u8) -> Result<TimerKind, Error> {
        ALL.into_iter()
            .find(|kind| *kind as u8 == byte)
            .ok_or_else(|| Error::malformed(format!("unknown timer {byte} in the log; known: 0 to 3")))
    }

    /// Nothing for Malachite's finalize timer: it exists only with a target time for each height, which would make the
    /// engine read a clock, and is never set here.
    pub(crate) fn of(kind: TimeoutKind) -> Option<TimerKind> {
        match kind {
            TimeoutKind::Propose => Some(TimerKind::Propose),
            TimeoutKind::Prevote => Some(TimerKind::Prevote),
            TimeoutKind::Precommit => Some(TimerKind::Precommit),
            TimeoutKind::Rebroadcast => Some(TimerKind::Rebroadcast),
            TimeoutKind::FinalizeHeight(_) => None,
        }
    }

    pub(crate) fn timeout(self) -> TimeoutKind {
        match self {
            TimerKind::Propose => TimeoutKind::Propose,
            TimerKind::Prevote => TimeoutKind::Prevote,
            TimerKind::Precommit => TimeoutKind::Precommit,
            TimerKind::Rebroadcast => TimeoutKind::Rebroadcast,
        }
    }
}

/// What this node does in a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It proposes, and votes.
    Proposer,
    /// It votes.
    Validator,
    /// It is not in the validator set: it follows, and learns the decision.
    Follower,
}

impl Role {
    /// The name that the node's driver uses.
    pub const fn name(self) -> &'static str {
        match self {
            Role::Proposer => "proposer",
            Role::Validator => "validator",
            Role::Follower => "follower",
        }
    }
}

/// Two signed messages of one validator that exclude each other, in their wire form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// `"vote"` or `"proposal"`.
    pub kind: &'static str,
    /// The message seen first.
    pub first: Vec<u8>,
    /// The message that contradicts it.
    pub second: Vec<u8>,
}

const ALL: [TimerKind; 4] = [TimerKind::Propose, TimerKind::Prevote, TimerKind::Precommit, TimerKind::Rebroadcast];
