//! The types that Malachite is generic over, filled in for cityid.
//!
//! A value is 32 bytes (the log root after a header) and is its own id; a validator is a public key with one vote; the
//! validator set keeps the order it was given, which is the order of city codes; nothing is weighted or re-sorted.
//! Addresses exist because Malachite wants an ordered name for each validator: the start of the SHA-256 of its key.
use cityid_core::error::Error;
use cityid_core::hash::{hex, sha256, Hash};
use cityid_core::vote::{self, VoteKind, MAX_VALIDATORS, NO_ROUND};
use malachitebft_core_types as malachite;
use malachitebft_core_types::{LinearTimeouts, NilOrVal, Round, SignedExtension, VoteType};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

pub(crate) type SignedVote = malachite::SignedVote<Network>;
pub(crate) type SignedProposal = malachite::SignedProposal<Network>;
pub(crate) type PolkaCertificate = malachite::PolkaCertificate<Network>;
pub(crate) type RoundCertificate = malachite::RoundCertificate<Network>;
pub(crate) type CommitCertificate = malachite::CommitCertificate<Network>;
pub(crate) type CertificateError = malachite::CertificateError<Network>;

/// One network: everything signed in it covers its genesis hash.
#[derive(Clone, Debug)]
pub(crate) struct Network {
    pub genesis: Hash,
}

impl Network {
    /// What the signature of this vote covers.
    pub fn vote_bytes(&self, vote: &Vote) -> Vec<u8> {
        let (kind, value) = (vote.kind(), vote.value_or_zero());
        vote::sign_bytes(kind, &self.genesis, vote.height.0, round_number(vote.round), NO_ROUND, &value)
    }

    /// What the signature of this proposal covers.
    pub fn proposal_bytes(&self, proposal: &Proposal) -> Vec<u8> {
        let (round, pol_round) = (round_number(proposal.round), round_number(proposal.pol_round));
        vote::sign_bytes(VoteKind::Proposal, &self.genesis, proposal.height.0, round, pol_round, &proposal.value.0)
    }
}

impl malachite::Context for Network {
    type Address = Address;
    type Height = Height;
    type ProposalPart = NoPart;
    type Proposal = Proposal;
    type Validator = Validator;
    type ValidatorSet = ValidatorSet;
    type Timeouts = LinearTimeouts;
    type Value = Value;
    type Vote = Vote;
    type Extension = ();
    type SigningScheme = Ed25519;

    /// P35: validator (height + round) mod n, in order of city code.
    fn select_proposer<'a>(&self, set: &'a ValidatorSet, height: Height, round: Round) -> &'a Validator {
        set.proposer(height.0, round)
    }

    fn new_proposal(&self, height: Height, round: Round, value: Value, pol_round: Round, address: Address) -> Proposal {
        Proposal { height, round, value, pol_round, address }
    }

    fn new_prevote(&self, height: Height, round: Round, value: NilOrVal<Value>, address: Address) -> Vote {
        Vote { vote_type: VoteType::Prevote, height, round, value, address }
    }

    fn new_precommit(&self, height: Height, round: Round, value: NilOrVal<Value>, address: Address) -> Vote {
        Vote { vote_type: VoteType::Precommit, height, round, value, address }
    }
}

/// The first 20 bytes of the SHA-256 of a validator's public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Address(pub [u8; 20]);

impl Address {
    /// The address of the validator with this key.
    pub fn of(key: &[u8; 32]) -> Address {
        let digest = sha256(key);
        let mut address = [0; 20];
        address.copy_from_slice(&digest[..20]);
        Address(address)
    }
}

impl malachite::Address for Address {}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0[..4]))
    }
}

/// A height; 0 is genesis and is never voted on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Height(pub u64);

impl malachite::Height for Height {
    const ZERO: Self = Height(0);
    const INITIAL: Self = Height(1);

    fn increment_by(&self, count: u64) -> Self {
        Height(self.0.saturating_add(count))
    }

    fn decrement_by(&self, count: u64) -> Option<Self> {
        self.0.checked_sub(count).map(Height)
    }

    fn as_u64(&self) -> u64 {
        self.0
    }
}

impl fmt::Display for Height {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a height decides: the log root after its header (P33). The body travels by other ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Value(pub Hash);

impl malachite::Value for Value {
    type Id = Value;

    fn id(&self) -> Value {
        *self
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

/// A proposal of a value by the proposer of its round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Proposal {
    pub height: Height,
    pub round: Round,
    pub value: Value,
    /// The earlier round in which a quorum prevoted this value; nil for a fresh value.
    pub pol_round: Round,
    pub address: Address,
}

impl malachite::Proposal<Network> for Proposal {
    fn height(&self) -> Height {
        self.height
    }

    fn round(&self) -> Round {
        self.round
    }

    fn value(&self) -> &Value {
        &self.value
    }

    fn take_value(self) -> Value {
        self.value
    }

    fn pol_round(&self) -> Round {
        self.pol_round
    }

    fn validator_address(&self) -> &Address {
        &self.address
    }
}

/// A prevote or precommit, for a value or for nil.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Vote {
    pub vote_type: VoteType,
    pub height: Height,
    pub round: Round,
    pub value: NilOrVal<Value>,
    pub address: Address,
}

impl Vote {
    /// The kind byte of this vote.
    pub fn kind(&self) -> VoteKind {
        vote_kind(self.vote_type, &self.value)
    }

    /// The value, or zeros for nil, where no encoder reads them.
    pub fn value_or_zero(&self) -> Hash {
        match &self.value {
            NilOrVal::Val(value) => value.0,
            NilOrVal::Nil => [0; 32],
        }
    }
}

impl malachite::Vote<Network> for Vote {
    fn height(&self) -> Height {
        self.height
    }

    fn round(&self) -> Round {
        self.round
    }

    fn value(&self) -> &NilOrVal<Value> {
        &self.value
    }

    fn take_value(self) -> NilOrVal<Value> {
        self.value
    }

    fn vote_type(&self) -> VoteType {
        self.vote_type
    }

    fn validator_address(&self) -> &Address {
        &self.address
    }

    // Vote extensions are disabled at every height, so none ever exists.
    fn extension(&self) -> Option<&SignedExtension<Network>> {
        None
    }

    fn take_extension(&mut self) -> Option<SignedExtension<Network>> {
        None
    }

    fn extend(self, _: SignedExtension<Network>) -> Self {
        self
    }
}

/// Malachite can carry proposal parts; cityid's blocks travel by their own protocol, so this type is never built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NoPart {}

impl malachite::ProposalPart<Network> for NoPart {
    fn is_first(&self) -> bool {
        match *self {}
    }

    fn is_last(&self) -> bool {
        match *self {}
    }
}

/// Ed25519 as bytes: what they mean is decided by `cityid_core::signature` alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ed25519;

/// The bytes of a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Signature(pub [u8; 64]);

/// The bytes of a public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PublicKey(pub [u8; 32]);

impl malachite::SigningScheme for Ed25519 {
    type DecodingError = Error;
    type Signature = Signature;
    type PublicKey = PublicKey;
    // Keys stay with the signer; none is ever held here.
    type PrivateKey = ();

    fn decode_signature(bytes: &[u8]) -> Result<Signature, Error> {
        bytes.try_into().map(Signature).map_err(|_| Error::malformed(format!("a signature has 64 bytes, not {}", bytes.len())))
    }

    fn encode_signature(signature: &Signature) -> Vec<u8> {
        signature.0.to_vec()
    }

    fn decode_public_key(bytes: &[u8]) -> Result<PublicKey, Error> {
        bytes.try_into().map(PublicKey).map_err(|_| Error::malformed(format!("a public key has 32 bytes, not {}", bytes.len())))
    }

    fn encode_public_key(key: &PublicKey) -> Vec<u8> {
        key.0.to_vec()
    }
}

/// One validator: one city, one vote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Validator {
    pub address: Address,
    pub key: PublicKey,
    /// Position in the set.
    pub index: u16,
}

impl malachite::Validator<Network> for Validator {
    fn address(&self) -> &Address {
        &self.address
    }

    fn public_key(&self) -> &PublicKey {
        &self.key
    }

    fn voting_power(&self) -> u64 {
        1
    }
}

/// The validators of one height, in the order given: never empty, no key twice, at most [`MAX_VALIDATORS`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ValidatorSet(Arc<Members>);

#[derive(Debug, PartialEq, Eq)]
struct Members {
    /// Kept apart from the list, so that "never empty" needs no proof at each use.
    first: Validator,
    all: Vec<Validator>,
    by_address: BTreeMap<Address, u16>,
}

impl ValidatorSet {
    /// A set from public keys in order of city code.
    pub fn new(keys: &[[u8; 32]]) -> Result<ValidatorSet, Error> {
        if keys.len() > MAX_VALIDATORS {
            return Err(Error::malformed(format!("{} validators are too many: at most {MAX_VALIDATORS} fit", keys.len())));
        }
        let all: Vec<Validator> =
            (0u16..).zip(keys).map(|(index, key)| Validator { address: Address::of(key), key: PublicKey(*key), index }).collect();
        let by_address: BTreeMap<Address, u16> = all.iter().map(|validator| (validator.address, validator.index)).collect();
        if by_address.len() != all.len() {
            return Err(Error::malformed("the validator set holds one key twice; each city has its own"));
        }
        let first = all.first().cloned().ok_or_else(|| Error::malformed("the validator set is empty; give at least one key"))?;
        Ok(ValidatorSet(Arc::new(Members { first, all, by_address })))
    }

    /// Number of validators.
    pub fn len(&self) -> usize {
        self.0.all.len()
    }

    /// Number of validators, as certificates carry it.
    pub fn count(&self) -> u16 {
        // At most MAX_VALIDATORS, which is far below 65,536.
        self.len() as u16
    }

    /// The validator at a position.
    pub fn at(&self, index: usize) -> Option<&Validator> {
        self.0.all.get(index)
    }

    /// The validator with an address.
    pub fn find(&self, address: &Address) -> Option<&Validator> {
        self.0.by_address.get(address).and_then(|index| self.at(usize::from(*index)))
    }

    /// The proposer of a round of a height.
    pub fn proposer(&self, height: u64, round: Round) -> &Validator {
        let turn = u128::from(height) + u128::from(round.as_u32().unwrap_or(0));
        let position = (turn % self.len() as u128) as usize;
        self.at(position).unwrap_or(&self.0.first)
    }
}

impl malachite::ValidatorSet<Network> for ValidatorSet {
    fn count(&self) -> usize {
        self.len()
    }

    fn total_voting_power(&self) -> u64 {
        self.len() as u64
    }

    fn get_by_address(&self, address: &Address) -> Option<&Validator> {
        self.find(address)
    }

    fn get_by_index(&self, index: usize) -> Option<&Validator> {
        self.at(index)
    }
}

/// The kind byte of a vote of this type for this value.
pub(crate) fn vote_kind(vote_type: VoteType, value: &NilOrVal<Value>) -> VoteKind {
    match (vote_type, value) {
        (VoteType::Prevote, NilOrVal::Val(_)) => VoteKind::PrevoteValue,
        (VoteType::Prevote, NilOrVal::Nil) => VoteKind::PrevoteNil,
        (VoteType::Precommit, NilOrVal::Val(_)) => VoteKind::PrecommitValue,
        (VoteType::Precommit, NilOrVal::Nil) => VoteKind::PrecommitNil,
    }
}

/// A round as it is signed and shown: −1 for none.
pub(crate) fn round_number(round: Round) -> i32 {
    match round {
        Round::Nil => NO_ROUND,
        // Rounds come from the wire, where they are at most i32::MAX, or grow from 0 by one for each timeout.
        Round::Some(number) => i32::try_from(number).unwrap_or(i32::MAX),
    }
}

/// The inverse of [`round_number`]; every negative number is "none".
pub(crate) fn round_from(number: i32) -> Round {
    u32::try_from(number).map_or(Round::Nil, Round::Some)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn proposers_take_turns_in_the_given_order() {
        // Descending keys: the set must keep the caller's order, not sort by key or address.
        let keys: Vec<[u8; 32]> = (0..5u8).rev().map(|byte| [byte; 32]).collect();
        let set = ValidatorSet::new(&keys).unwrap();
        for height in 0..12u64 {
            for round in 0..7u32 {
                let expected = (height + u64::from(round)) % 5;
                let proposer = set.proposer(height, Round::new(round));
                assert_eq!(u64::from(proposer.index), expected);
                assert_eq!(proposer.key.0, keys[expected as usize]);
            }
        }
        assert_eq!(set.proposer(u64::MAX, Round::new(1)).index, ((u128::from(u64::MAX) + 1) % 5) as u16);
    }

    #[test]
    fn unusable_sets_are_refused() {
        assert!(ValidatorSet::new(&[]).is_err());
        assert!(ValidatorSet::new(&[[1; 32], [2; 32], [1; 32]]).is_err());
        let many: Vec<[u8; 32]> = (0u32..=MAX_VALIDATORS as u32)
            .map(|number| {
                let mut key = [0; 32];
                key[..4].copy_from_slice(&number.to_be_bytes());
                key
            })
            .collect();
        assert!(ValidatorSet::new(&many).is_err());
        assert!(ValidatorSet::new(&many[1..]).is_ok());
    }

    #[test]
    fn rounds_keep_their_number() {
        for number in [-1, 0, 1, i32::MAX] {
            assert_eq!(round_number(round_from(number)), number);
        }
        assert_eq!(round_from(-5), Round::Nil);
    }
}
