//! Signatures of one height: which are good, and which certificates they make.
//!
//! A vote is met several times: in the inbox, inside certificates, and in the commit certificate when the height is
//! decided, where Malachite stops the process if it does not verify. So there is one place that answers, under one rule
//! (ZIP-215, where a batch and a single check agree on every input), and it remembers what it found good until the height
//! is over. The memory is bounded; when it is full signatures are verified again, never believed.
//!
//! It draws no randomness: batch seeds come from the seed it was made with and a counter.
use crate::context::{
    Address, CertificateError, CommitCertificate, Network, PolkaCertificate, PublicKey, RoundCertificate, Signature, SignedProposal,
    SignedVote, ValidatorSet,
};
use cityid_core::error::Error;
use cityid_core::hash::{sha256, Hash};
use cityid_core::mutants::{planted, Mutant};
use cityid_core::signature::{self, Item};
use cityid_core::vote::MAX_VALIDATORS;
use malachitebft_core_consensus::ThresholdParams;
use malachitebft_core_types::{Context as _, NilOrVal, RoundCertificateType, ThresholdParam, VoteType};
use std::collections::{BTreeMap, BTreeSet};

/// One signature, and all that its verdict depends on.
#[derive(Clone, Debug)]
pub(crate) struct Claim {
    height: u64,
    key: PublicKey,
    signature: Signature,
    message: Vec<u8>,
}

impl Claim {
    /// The claim that this key signed these bytes, which are about this height.
    pub fn new(height: u64, key: PublicKey, signature: Signature, message: Vec<u8>) -> Claim {
        Claim { height, key, signature, message }
    }

    /// The claim of a vote, if its voter is in the set.
    pub fn of_vote(network: &Network, set: &ValidatorSet, vote: &SignedVote) -> Option<Claim> {
        let voter = set.find(&vote.address)?;
        Some(Claim::new(vote.height.0, voter.key, vote.signature, network.vote_bytes(&vote.message)))
    }

    /// The claim of a proposal, if its author is the proposer of its round.
    pub fn of_proposal(network: &Network, set: &ValidatorSet, proposal: &SignedProposal) -> Option<Claim> {
        let proposer = set.proposer(proposal.height.0, proposal.round);
        if proposer.address != proposal.address {
            return None;
        }
        Some(Claim::new(proposal.height.0, proposer.key, proposal.signature, network.proposal_bytes(&proposal.message)))
    }

    /// What identifies the claim. The signature comes first: it differs soonest.
    fn identity(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 + 32 + self.message.len());
        out.extend_from_slice(&self.signature.0);
        out.extend_from_slice(&self.key.0);
        out.extend_from_slice(&self.message);
        out
    }
}

/// How much was verified, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VerifyCounters {
    /// Signatures verified one by one.
    pub single: u64,
    /// Signatures verified in batches.
    pub batched: u64,
    /// Batches.
    pub batches: u64,
    /// Signatures answered from memory.
    pub remembered: u64,
    /// Signatures that did not verify.
    pub refused: u64,
}

/// Verifies, and remembers what is good.
pub(crate) struct Verifier {
    batch: signature::Verifier,
    seed: Hash,
    seeds_drawn: u64,
    /// Identities of good claims, by height: the present height, and the next one's early messages.
    good: BTreeMap<u64, BTreeSet<Vec<u8>>>,
    capacity: usize,
    pub counters: VerifyCounters,
}

impl Verifier {
    /// A verifier with a seed that nobody else knows.
    pub fn new(seed: Hash) -> Verifier {
        Verifier {
            batch: signature::Verifier::new(MAX_VALIDATORS),
            seed,
            seeds_drawn: 0,
            good: BTreeMap::new(),
            capacity: 0,
            counters: VerifyCounters::default(),
        }
    }

    /// Forgets everything about lower heights, and makes room for a set of this size.
    pub fn start_height(&mut self, height: u64, validators: usize) {
        self.good = self.good.split_off(&height);
        self.capacity = GOOD_PER_VALIDATOR * validators + 256;
    }

    /// Whether a claim was found good before.
    pub fn knows(&self, claim: &Claim) -> bool {
        self.good.get(&claim.height).is_some_and(|good| good.contains(&claim.identity()))
    }

    /// Whether one claim is good.
    pub fn check(&mut self, claim: &Claim) -> bool {
        if self.knows(claim) {
            self.counters.remembered += 1;
            return true;
        }
        self.counters.single += 1;
        let good = signature::verify(&claim.key.0, &claim.message, &claim.signature.0).is_ok() || planted(Mutant::BadSignatureAccepted);
        self.settle(claim, good);
        good
    }

    /// Whether each of many claims is good, verified together.
    pub fn check_all(&mut self, claims: &[Claim]) -> Vec<bool> {
        let open: Vec<usize> = (0..claims.len()).filter(|position| !self.knows(&claims[*position])).collect();
        self.counters.remembered += (claims.len() - open.len()) as u64;
        let mut verdicts = vec![true; claims.len()];
        if open.len() < BATCH_MIN {
            for position in open {
                verdicts[position] = self.check(&claims[position]);
            }
            return verdicts;
        }
        self.counters.batches += 1;
        self.counters.batched += open.len() as u64;
        let items: Vec<Item<'_>> = open
            .iter()
            .map(|position| &claims[*position])
            .map(|claim| Item { key: &claim.key.0, message: &claim.message, signature: &claim.signature.0 })
            .collect();
        let seed = self.draw_seed();
        match self.batch.verify_batch(&items, seed) {
            Ok(()) => {}
            Err(_) if planted(Mutant::BadSignatureAccepted) => {}
            Err(Error::Signature(bad)) => {
                for position in bad.iter().filter_map(|position| open.get(*position as usize)) {
                    verdicts[*position] = false;
                }
            }
            // A batch that could not be examined at all proves nothing good.
            Err(_) => open.iter().for_each(|position| verdicts[*position] = false),
        }
        for position in open {
            self.settle(&claims[position], verdicts[position]);
        }
        verdicts
    }

    /// Checks a polka certificate.
    pub fn check_polka(
        &mut self,
        network: &Network,
        set: &ValidatorSet,
        certificate: &PolkaCertificate,
        thresholds: ThresholdParams,
    ) -> Result<(), CertificateError> {
        let claims = polka_claims(network, set, certificate, thresholds)?;
        self.first_bad(&claims)
            .map_or(Ok(()), |bad| Err(CertificateError::InvalidPolkaSignature(certificate.polka_signatures[bad].clone())))
    }

    /// Checks a round certificate.
    pub fn check_round(
        &mut self,
        network: &Network,
        set: &ValidatorSet,
        certificate: &RoundCertificate,
        thresholds: ThresholdParams,
    ) -> Result<(), CertificateError> {
        let claims = round_claims(network, set, certificate, thresholds)?;
        self.first_bad(&claims)
            .map_or(Ok(()), |bad| Err(CertificateError::InvalidRoundSignature(certificate.round_signatures[bad].clone())))
    }

    /// Checks a commit certificate: precommits of a quorum for its value.
    pub fn check_commit(
        &mut self,
        network: &Network,
        set: &ValidatorSet,
        certificate: &CommitCertificate,
        thresholds: ThresholdParams,
    ) -> Result<(), CertificateError> {
        let value = NilOrVal::Val(certificate.value_id);
        let votes = certificate.commit_signatures.iter().map(|entry| {
            SignedVote::new(network.new_precommit(certificate.height, certificate.round, value, entry.address), entry.signature)
        });
        let claims = gather(network, set, votes, thresholds.quorum)?;
        self.first_bad(&claims)
            .map_or(Ok(()), |bad| Err(CertificateError::InvalidCommitSignature(certificate.commit_signatures[bad].clone())))
    }

    fn first_bad(&mut self, claims: &[Claim]) -> Option<usize> {
        self.check_all(claims).iter().position(|good| !good)
    }

    fn settle(&mut self, claim: &Claim, good: bool) {
        if !good {
            self.counters.refused += 1;
            return;
        }
        let known = self.good.entry(claim.height).or_default();
        if known.len() < self.capacity {
            known.insert(claim.identity());
        }
    }

    /// A seed that was not used before and that nobody outside can foresee.
    fn draw_seed(&mut self) -> Hash {
        self.seeds_drawn += 1;
        let mut bytes = [0; 40];
        bytes[..32].copy_from_slice(&self.seed);
        bytes[32..].copy_from_slice(&self.seeds_drawn.to_be_bytes());
        sha256(&bytes)
    }
}

/// What must hold for a polka certificate: prevotes of a quorum for its value. One claim for each of its signatures.
pub(crate) fn polka_claims(
    network: &Network,
    set: &ValidatorSet,
    certificate: &PolkaCertificate,
    thresholds: ThresholdParams,
) -> Result<Vec<Claim>, CertificateError> {
    gather(network, set, certificate.votes(network), thresholds.quorum)
}

/// What must hold for a round certificate: precommits of a quorum for anything, or votes of one honest validator at least.
pub(crate) fn round_claims(
    network: &Network,
    set: &ValidatorSet,
    certificate: &RoundCertificate,
    thresholds: ThresholdParams,
) -> Result<Vec<Claim>, CertificateError> {
    let threshold = match certificate.cert_type {
        RoundCertificateType::Skip => thresholds.honest,
        RoundCertificateType::Precommit => {
            if let Some(prevote) = certificate.round_signatures.iter().find(|entry| entry.vote_type == VoteType::Prevote) {
                return Err(CertificateError::InvalidVoteType(prevote.address));
            }
            thresholds.quorum
        }
    };
    gather(network, set, certificate.votes(network), threshold)
}

/// The claims of votes of distinct members of the set, enough of them. Everything but the signatures is checked here, so
/// that a certificate that cannot count costs no verification.
fn gather(
    network: &Network,
    set: &ValidatorSet,
    votes: impl Iterator<Item = SignedVote>,
    threshold: ThresholdParam,
) -> Result<Vec<Claim>, CertificateError> {
    let mut seen: BTreeSet<Address> = BTreeSet::new();
    let mut claims = Vec::new();
    for vote in votes {
        let claim = Claim::of_vote(network, set, &vote).ok_or(CertificateError::UnknownValidator(vote.address))?;
        if !seen.insert(vote.address) && !planted(Mutant::DuplicateVoteCounted) {
            return Err(CertificateError::DuplicateVote(vote.address));
        }
        claims.push(claim);
    }
    let (signed, total) = (claims.len() as u64, set.len() as u64);
    if !threshold.is_met(signed, total) {
        return Err(CertificateError::NotEnoughVotingPower { signed, total, expected: threshold.min_expected(total) });
    }
    Ok(claims)
}

/// Below this many a batch costs more than single checks.
const BATCH_MIN: usize = 4;

/// Good signatures remembered for each validator of the set: a proposal and two votes a round, for ten rounds and more.
const GOOD_PER_VALIDATOR: usize = 32;
