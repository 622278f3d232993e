//! The engine: what a node calls, and what it gets back.
//!
//! Every call runs one input to its end and returns the effects it caused, in order. A height moves forward only by
//! [`Engine::start_height`]; after it is decided the engine takes no more input for it, except that it still repeats its
//! last votes for cities that missed them. [`Engine::recover`] replaces the first start after a restart.
//!
//! Bytes from other cities never make a call fail: what is wrong with them comes back as an effect. An `Err` means the node
//! called wrongly. The engine stops for good ([`Effect::Fatal`]) when its signer fails, when its log contradicts itself, or
//! when Malachite panics; it never votes on from a state it cannot vouch for.
//!
//! Malachite reads the clock once a height, for a feature that is off here (a target time); nothing depends on it.
use crate::codec::{decode_entry, encode_entry, encode_proposal, message_height};
use crate::context::{round_from, round_number, Address, Height, Network, PublicKey, Signature, ValidatorSet, Value};
use crate::effect::{Effect, TimerKind};
use crate::host::{Host, Signer};
use crate::inbox::{admit, Early, EARLY_PER_VALIDATOR};
use crate::verifier::{polka_claims, Claim, Verifier, VerifyCounters};
use cityid_core::error::Error;
use cityid_core::hash::Hash;
use cityid_core::mutants::{planted, Mutant};
use cityid_core::vote::{CommitCertificate, MAX_VALIDATORS};
use malachitebft_core_consensus::{process, Input, LocallyProposedValue, Params, PeerId, ProposedValue, ThresholdParams};
use malachitebft_core_types::{
    CommitSignature, ExtendedCommitCertificate, LinearTimeouts, ThresholdParam, Timeout, Validity, ValueOrigin, ValuePayload,
    ValueResponse, VoteExtensionPolicy, VoteExtensions,
};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

pub(crate) type State = malachitebft_core_consensus::State<Network>;

/// How long to wait in a round before giving up on it. Every value may be changed while the engine runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For a proposal, in round 0.
    pub propose_ms: u64,
    /// For prevotes to agree, in round 0.
    pub prevote_ms: u64,
    /// For precommits to agree, in round 0.
    pub precommit_ms: u64,
    /// Added to each of them for every round that failed.
    pub delta_ms: u64,
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts { propose_ms: 500, prevote_ms: 300, precommit_ms: 100, delta_ms: 200 }
    }
}

impl Timeouts {
    fn linear(self) -> Result<LinearTimeouts, Error> {
        let waits = [self.propose_ms, self.prevote_ms, self.precommit_ms];
        if waits.contains(&0) || waits.iter().chain([&self.delta_ms]).any(|wait| *wait > MAX_TIMEOUT_MS) {
            return Err(Error::malformed(format!("timeouts are 1 to {MAX_TIMEOUT_MS} ms, and delta_ms may be 0; got {self:?}")));
        }
        let (propose, prevote, precommit) = (ms(self.propose_ms), ms(self.prevote_ms), ms(self.precommit_ms));
        let delta = ms(self.delta_ms);
        Ok(LinearTimeouts {
            propose,
            propose_delta: delta,
            prevote,
            prevote_delta: delta,
            precommit,
            precommit_delta: delta,
            rebroadcast: propose + prevote + precommit,
            max_timeout: ms(MAX_TIMEOUT_MS),
        })
    }
}

/// The node's verdict on a block it executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProposedBlock {
    /// Height of the block.
    pub height: u64,
    /// Round of the proposal, or of the certificate of a fetched block.
    pub round: i32,
    /// Earlier round with a quorum of prevotes for it, or −1.
    pub valid_round: i32,
    /// Position of the proposer of that round in the validator set.
    pub proposer: u16,
    /// The value: the log root after its header.
    pub value: Hash,
    /// Whether the block is valid. Its header and batches are durable when this is said (P37).
    pub valid: bool,
    /// Whether it was fetched with its certificate rather than proposed.
    pub sync: bool,
}

/// What an engine did since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Inputs given to Malachite.
    pub inputs: u64,
    /// Votes and proposals signed.
    pub signed: u64,
    /// Messages that do not parse or cannot count at this height.
    pub malformed: u64,
    /// Messages with a signature that does not verify.
    pub forged: u64,
    /// Messages, values and timers of something that is over.
    pub stale: u64,
    /// Messages of the next height that wait for it.
    pub early: u64,
    /// Messages too far ahead to keep, or beyond a validator's share of the queue.
    pub ahead: u64,
    /// Signature checks.
    pub verify: VerifyCounters,
}

/// One validator's, or follower's, part in consensus.
pub struct Engine {
    host: Host,
    phase: Phase,
    early: Early,
    counters: Counters,
    /// Malachite names the peer that a fetched value came from. The node knows that better: one name for all.
    peer: PeerId,
}

/// Where an engine is in its life.
enum Phase {
    /// Made, and not started.
    New,
    Running(Box<State>),
    /// An input is being worked on. Seen from outside only after a panic, when the state it held is gone.
    Busy,
}

impl Engine {
    /// An engine for the validator with this consensus key, or for a follower if no set will hold the key. `seed` is 32
    /// bytes from the operating system's generator; it only ever serves to verify batches.
    pub fn new(key: [u8; 32], signer: Box<dyn Signer>, genesis: Hash, seed: Hash, timeouts: Timeouts) -> Result<Engine, Error> {
        let peer = PeerId::from_bytes(&EMPTY_PEER).map_err(|error| {
            Error::malformed(format!("the consensus core refuses its peer name ({error}); use the locked version of it"))
        })?;
        let host = Host {
            network: Network { genesis },
            key: PublicKey(key),
            address: Address::of(&key),
            signer,
            timeouts: timeouts.linear()?,
            verifier: Verifier::new(seed),
            // Until a height starts, nobody but this key is known.
            set: ValidatorSet::new(&[key])?,
            effects: Vec::new(),
            stopped: None,
            signed: 0,
            #[cfg(feature = "mutants")]
            unlocked: Default::default(),
        };
        Ok(Engine { host, phase: Phase::New, early: Early::new(), counters: Counters::default(), peer })
    }

    /// Changes the timeouts; timers that run keep theirs.
    pub fn set_timeouts(&mut self, timeouts: Timeouts) -> Result<(), Error> {
        self.host.timeouts = timeouts.linear()?;
        Ok(())
    }

    /// Starts a height under this validator set: public keys in order of city code. Heights only go up; some may be left
    /// out, when the node learned their blocks by other ways.
    pub fn start_height(&mut self, height: u64, validators: &[[u8; 32]]) -> Result<Vec<Effect>, Error> {
        if let Phase::Running(state) = &self.phase {
            let present = state.height().0;
            if height <= present {
                return Err(Error::malformed(format!(
                    "height {height} cannot start: the engine is at {present}, and a validator must never run a height twice"
                )));
            }
        }
        self.enter(height, validators)?;
        self.feed(start(height, &self.host.set));
        Ok(self.finish())
    }

    /// Starts the height that was running when the node stopped, from its log entries of that height, oldest first; a torn
    /// last entry is left out by the caller. In one call, so that nothing half-recovered can be acted on.
    ///
    /// Malachite works through the entries again. What it says for the second time with the same words is repeated to the
    /// others from the log; what would contradict the log stops the engine. Only entries that are new come back as
    /// [`Effect::Log`].
    pub fn recover(&mut self, height: u64, validators: &[[u8; 32]], entries: &[&[u8]]) -> Result<Vec<Effect>, Error> {
        if !matches!(self.phase, Phase::New) {
            return Err(Error::malformed("recover must be the first call of an engine; make a new one"));
        }
        let inputs = parse_log(height, entries)?;
        self.enter(height, validators)?;
        if let Err(error) = self.check_log(&inputs) {
            self.phase = Phase::New;
            return Err(error);
        }
        if let Phase::Running(state) = &mut self.phase {
            // Before anything is signed: from here on the log answers for what it holds.
            state.index_wal_entries(inputs.iter());
        }
        self.feed(start(height, &self.host.set));
        for input in &inputs {
            self.feed(input.clone());
        }
        let wanted = self.propose_again(height, &inputs);
        self.repeat_proposal(&inputs);
        if let Phase::Running(state) = &mut self.phase {
            state.reset_entries_index();
        }
        let logged: BTreeSet<&[u8]> = entries.iter().copied().collect();
        let mut effects = self.finish();
        effects.retain(|effect| match effect {
            Effect::Log { entry, .. } => !logged.contains(entry.as_slice()),
            // Replay asks for the values of all rounds it passes through; only the one that is open still needs one.
            Effect::GetValue { round, .. } => Some(*round) == wanted,
            _ => true,
        });
        Ok(effects)
    }

    /// Messages from other cities: one drained inbox, verified together.
    pub fn receive(&mut self, messages: &[&[u8]]) -> Result<Vec<Effect>, Error> {
        let state = match std::mem::replace(&mut self.phase, Phase::Busy) {
            Phase::Running(state) => state,
            other => {
                self.phase = other;
                return self.not_running();
            }
        };
        if self.host.stopped.is_some() {
            self.phase = Phase::Running(state);
            return Ok(self.finish());
        }
        let admitted = admit(messages, &state, &mut self.host, &mut self.early, &mut self.counters);
        self.phase = Phase::Running(state);
        for input in admitted {
            if self.decided() && !is_early(&input, self.height()) {
                self.counters.stale += 1;
            } else {
                self.feed(input);
            }
        }
        Ok(self.finish())
    }

    /// The value to propose, after [`Effect::GetValue`]. Its block is durable when this is called (P37). Too late is no
    /// error: the round went on without it.
    pub fn propose(&mut self, height: u64, round: i32, value: Hash) -> Result<Vec<Effect>, Error> {
        let Phase::Running(state) = &self.phase else {
            return self.not_running();
        };
        let open = state.height().0 == height && round_number(state.round()) == round && state.driver.step_is_propose();
        if !open || self.host.set.proposer(height, state.round()).address != self.host.address {
            self.counters.stale += 1;
            return Ok(self.finish());
        }
        self.feed(Input::Propose(LocallyProposedValue::new(Height(height), round_from(round), Value(value))));
        Ok(self.finish())
    }

    /// The verdict on a block, after it was executed. Verdicts of other heights are stale and change nothing.
    pub fn proposed_value(&mut self, block: ProposedBlock) -> Result<Vec<Effect>, Error> {
        let Phase::Running(state) = &self.phase else {
            return self.not_running();
        };
        let Some(proposer) = self.host.set.at(usize::from(block.proposer)).map(|validator| validator.address) else {
            return Err(Error::malformed(format!(
                "proposer {} is beyond the {} validators of this height",
                block.proposer,
                self.host.set.len()
            )));
        };
        if block.round < 0 {
            return Err(Error::malformed("a proposed block needs a round, from 0"));
        }
        if state.height().0 != block.height || self.decided() {
            self.counters.stale += 1;
            return Ok(self.finish());
        }
        let proposed = ProposedValue {
            height: Height(block.height),
            round: round_from(block.round),
            valid_round: round_from(block.valid_round),
            proposer,
            value: Value(block.value),
            validity: Validity::from_bool(block.valid),
        };
        let origin = if block.sync { ValueOrigin::Sync } else { ValueOrigin::Consensus };
        self.feed(Input::ProposedValue(proposed, origin));
        Ok(self.finish())
    }

    /// A timer fired. Timers of rounds that are over change nothing; those of earlier heights must not be given, since a
    /// timer does not know its height ([`Effect::CancelAll`] opens every height).
    pub fn timeout(&mut self, kind: TimerKind, round: i32) -> Result<Vec<Effect>, Error> {
        let Phase::Running(state) = &self.phase else {
            return self.not_running();
        };
        let over = round_number(state.round()) != round || (self.decided() && kind != TimerKind::Rebroadcast);
        if over {
            self.counters.stale += 1;
            return Ok(self.finish());
        }
        self.feed(Input::TimeoutElapsed(Timeout::new(round_from(round), kind.timeout())));
        Ok(self.finish())
    }

    /// A commit certificate from another city, for the value that its block has as this node recomputed it. A good one comes
    /// back as [`Effect::SyncVerified`], or decides at once when the block was executed before.
    pub fn sync_value(&mut self, certificate: &[u8], value: Hash) -> Result<Vec<Effect>, Error> {
        let Phase::Running(state) = &self.phase else {
            return self.not_running();
        };
        let present = state.height().0;
        let decided = self.decided();
        match self.usable_certificate(certificate, value, present) {
            Err((height, reason)) => self.host.effects.push(Effect::SyncRejected { height, reason }),
            Ok(_) if decided => self.counters.stale += 1,
            Ok(certificate) => {
                let response = ValueResponse::new(self.peer, bytes::Bytes::copy_from_slice(&value), certificate);
                self.feed(Input::SyncValueResponse(response));
            }
        }
        Ok(self.finish())
    }

    /// Present height; 0 before the first.
    pub fn height(&self) -> u64 {
        match &self.phase {
            Phase::Running(state) => state.height().0,
            _ => 0,
        }
    }

    /// Present round; −1 before the first.
    pub fn round(&self) -> i32 {
        match &self.phase {
            Phase::Running(state) => round_number(state.round()),
            _ => -1,
        }
    }

    /// Present step: `unstarted`, `propose`, `prevote`, `precommit` or `commit`; `stopped` after a fatal effect.
    pub fn step(&self) -> &'static str {
        match &self.phase {
            _ if self.host.stopped.is_some() => "stopped",
            Phase::Busy => "stopped",
            Phase::New => "unstarted",
            Phase::Running(state) if state.driver.step_is_propose() => "propose",
            Phase::Running(state) if state.driver.step_is_prevote() => "prevote",
            Phase::Running(state) if state.driver.step_is_precommit() => "precommit",
            Phase::Running(state) if state.driver.step_is_commit() => "commit",
            Phase::Running(_) => "unstarted",
        }
    }

    /// What was done so far.
    pub fn counters(&self) -> Counters {
        Counters { signed: self.host.signed, verify: self.host.verifier.counters, ..self.counters }
    }

    /// Takes in the validators of a height, and makes Malachite's state at the first.
    fn enter(&mut self, height: u64, validators: &[[u8; 32]]) -> Result<(), Error> {
        if height == 0 {
            return Err(Error::malformed("height 0 is the genesis, which is not voted on; start at 1"));
        }
        let set = ValidatorSet::new(validators)?;
        self.host.verifier.start_height(height, set.len());
        self.host.set = set;
        self.early.clear();
        if matches!(self.phase, Phase::New) {
            let params = Params {
                address: self.host.address,
                threshold_params: thresholds(),
                // The value is an id and its block travels by our own protocol. (With ProposalOnly every proposal would
                // count as valid by itself.)
                value_payload: ValuePayload::ProposalAndParts,
                enabled: true,
            };
            let network = self.host.network.clone();
            let state = State::new(network, Height(height), self.host.set.clone(), params, QUEUED_HEIGHTS, QUEUED_MESSAGES);
            self.phase = Phase::Running(Box::new(state));
        }
        Ok(())
    }

    /// Runs one input through Malachite.
    fn feed(&mut self, input: Input<Network>) {
        if self.host.stopped.is_some() {
            return;
        }
        // The state is out of reach while Malachite works: should it panic, no later call finds half an input applied.
        let mut state = match std::mem::replace(&mut self.phase, Phase::Busy) {
            Phase::Running(state) => state,
            other => {
                self.phase = other;
                return;
            }
        };
        self.counters.inputs += 1;
        let host = &mut self.host;
        #[cfg(feature = "mutants")]
        host.unlocked.note(&input);
        let outcome: Result<(), malachitebft_core_consensus::Error<Network>> =
            process!(input: input, state: &mut state, metrics: &(), with: request => host.handle(request));
        self.phase = Phase::Running(state);
        match outcome {
            Ok(()) => {}
            // The reason was given when it stopped.
            Err(_) if self.host.stopped.is_some() => {}
            Err(error @ malachitebft_core_consensus::Error::ReplayDivergence(..)) => self.host.stop(error.to_string()),
            Err(error) => self.host.refuse(None, format!("the consensus core refused an input: {error}")),
        }
    }

    /// The effects of a call. A stopped engine says so every time.
    fn finish(&mut self) -> Vec<Effect> {
        let mut effects = std::mem::take(&mut self.host.effects);
        if let Some(reason) = &self.host.stopped {
            if !effects.iter().any(|effect| matches!(effect, Effect::Fatal(_))) {
                effects.push(Effect::Fatal(reason.clone()));
            }
        }
        effects
    }

    fn not_running(&mut self) -> Result<Vec<Effect>, Error> {
        if matches!(self.phase, Phase::Busy) {
            if self.host.stopped.is_none() {
                self.host.stop("the consensus core panicked in an earlier call".into());
            }
            return Ok(self.finish());
        }
        Err(Error::malformed("no height has started; call start_height or recover first"))
    }

    /// Whether the present height is decided.
    fn decided(&self) -> bool {
        matches!(&self.phase, Phase::Running(state) if state.driver.step_is_commit())
    }

    /// A certificate in Malachite's form, if it can be for the present height and this value. An error carries the height
    /// that it claims.
    fn usable_certificate(&self, bytes: &[u8], value: Hash, present: u64) -> Result<ExtendedCommitCertificate<Network>, (u64, String)> {
        let certificate = CommitCertificate::decode(bytes).map_err(|error| (present, error.to_string()))?;
        let refused = |reason: String| Err((certificate.height, reason));
        if certificate.height != present {
            return refused(format!("the certificate is for height {} and the engine is at {present}; fetch that one", certificate.height));
        }
        if certificate.value != value {
            return refused("the certificate is for another value than its block has; fetch the block from another city".into());
        }
        if usize::from(certificate.validators) != self.host.set.len() {
            let (named, expected) = (certificate.validators, self.host.set.len());
            return refused(format!("the certificate counts in a set of {named} validators, and this height has {expected}"));
        }
        let commit_signatures = certificate
            .signatures
            .iter()
            .filter_map(|entry| {
                let signer = self.host.set.at(usize::from(entry.index))?;
                Some(CommitSignature::new(signer.address, Signature(entry.signature)))
            })
            .collect();
        let converted = malachitebft_core_types::CommitCertificate {
            height: Height(certificate.height),
            round: malachitebft_core_types::Round::new(certificate.round),
            value_id: Value(certificate.value),
            commit_signatures,
        };
        Ok(ExtendedCommitCertificate::from_commit_certificate_and_extensions(converted, VoteExtensions::new(Vec::new())))
    }

    /// Everything in the log was verified before it was written: a signature that is not good now means a damaged log,
    /// which must not be voted from.
    fn check_log(&mut self, inputs: &[Input<Network>]) -> Result<(), Error> {
        let (network, set) = (&self.host.network, &self.host.set);
        let mut claims: Vec<Claim> = Vec::new();
        let mut owners: Vec<usize> = Vec::new();
        for (position, input) in inputs.iter().enumerate() {
            let own = match input {
                Input::Vote(vote) => Claim::of_vote(network, set, vote).map(|claim| vec![claim]),
                Input::Proposal(proposal) => Claim::of_proposal(network, set, proposal).map(|claim| vec![claim]),
                Input::PolkaCertificate(certificate) => polka_claims(network, set, certificate, thresholds()).ok(),
                _ => Some(Vec::new()),
            };
            let own = own.ok_or_else(|| damaged(position, "it is of somebody who is not in the validator set"))?;
            owners.extend(std::iter::repeat_n(position, own.len()));
            claims.extend(own);
        }
        let verdicts = self.host.verifier.check_all(&claims);
        match owners.iter().zip(&verdicts).find(|(_, good)| !**good) {
            Some((position, _)) => Err(damaged(*position, "its signature does not verify")),
            None => Ok(()),
        }
    }

    /// When the log ends between a value of ours and the proposal of it, proposes that same value. Returns the round that
    /// still waits for a value, if one does.
    fn propose_again(&mut self, height: u64, inputs: &[Input<Network>]) -> Option<i32> {
        let Phase::Running(state) = &self.phase else {
            return None;
        };
        let round = round_number(state.round());
        let asked = self.host.effects.iter().any(|effect| matches!(effect, Effect::GetValue { round: asked, .. } if *asked == round));
        if !asked || !state.driver.step_is_propose() {
            return None;
        }
        let values: BTreeMap<i32, Value> = inputs
            .iter()
            .rev()
            .filter_map(|input| match input {
                Input::ProposedValue(proposed, _) if proposed.proposer == self.host.address => {
                    Some((round_number(proposed.round), proposed.value))
                }
                _ => None,
            })
            .collect();
        let Some(value) = values.get(&round) else {
            return Some(round);
        };
        self.feed(Input::Propose(LocallyProposedValue::new(Height(height), round_from(round), *value)));
        None
    }

    /// Sends our proposal of the present round again, if the log holds it: the others may never have got it. Votes are
    /// repeated by the replay itself.
    fn repeat_proposal(&mut self, inputs: &[Input<Network>]) {
        let Phase::Running(state) = &self.phase else {
            return;
        };
        let own = inputs.iter().find_map(|input| match input {
            Input::Proposal(own) if own.address == self.host.address && own.round == state.round() => Some(own),
            _ => None,
        });
        let Some(own) = own.filter(|_| !self.decided() && self.host.stopped.is_none()) else {
            return;
        };
        let message = Effect::Publish(encode_proposal(own));
        if self.host.effects.contains(&message) {
            return;
        }
        let (height, round, valid_round) = (own.height.0, round_number(own.round), round_number(own.pol_round));
        self.host.effects.push(message);
        self.host.effects.push(Effect::Restream { height, round, valid_round, value: own.value.0 });
    }
}

/// More than two thirds decide, more than one third has an honest one in it (P36).
fn thresholds() -> ThresholdParams {
    if planted(Mutant::QuorumOffByOne) {
        return ThresholdParams { quorum: ThresholdParam::new(3, 7), ..ThresholdParams::default() };
    }
    ThresholdParams::default()
}

fn start(height: u64, set: &ValidatorSet) -> Input<Network> {
    Input::StartHeight(Height(height), set.clone(), false, None, VoteExtensionPolicy::Disabled)
}

fn parse_log(height: u64, entries: &[&[u8]]) -> Result<Vec<Input<Network>>, Error> {
    let mut inputs = Vec::with_capacity(entries.len());
    for (position, entry) in entries.iter().enumerate() {
        let input = decode_entry(entry).map_err(|error| damaged(position, &error.to_string()))?;
        if message_height(entry)? != height {
            return Err(Error::malformed(format!(
                "log entry {position} is of another height than {height}; give the entries of one height"
            )));
        }
        if encode_entry(height, &input).is_none() {
            return Err(damaged(position, "entries of its kind are never logged"));
        }
        inputs.push(input);
    }
    Ok(inputs)
}

fn damaged(position: usize, why: &str) -> Error {
    Error::malformed(format!(
        "entry {position} of the consensus log is damaged: {why}; do not vote with this log, restore the node from a backup or rejoin with a new key"
    ))
}

fn is_early(input: &Input<Network>, present: u64) -> bool {
    match input {
        Input::Vote(vote) => vote.height.0 > present,
        Input::Proposal(proposal) => proposal.height.0 > present,
        _ => false,
    }
}

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// No timer runs longer, whatever the round.
const MAX_TIMEOUT_MS: u64 = 60_000;

/// Heights that Malachite may queue messages of: only the next one is ever given to it.
const QUEUED_HEIGHTS: usize = 2;

/// Messages of one height that Malachite may queue: every validator's share, so that it never drops what `inbox` let in.
const QUEUED_MESSAGES: usize = EARLY_PER_VALIDATOR as usize * MAX_VALIDATORS;

/// The empty identity multihash.
const EMPTY_PEER: [u8; 2] = [0, 0];
