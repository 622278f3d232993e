//! Bytes of consensus messages and of write-ahead log entries.
//!
//! Every message opens with a kind byte and the height, so that a node can drop or keep it without parsing the rest
//! ([`message_height`]). Integers are big-endian. Layouts, after `kind(1) height(8) round(4)`:
//!
//! | kind | what | fields |
//! |---|---|---|
//! | `P` | proposal | pol_round(4) value(32) address(20) signature(64) |
//! | `v` `n` `V` `N` | prevote, precommit; for a value or nil | value(32, not for nil) address(20) signature(64) |
//! | `K` | polka certificate: a quorum of prevotes for a value | value(32) count(2) then address(20) signature(64) each |
//! | `R` | round certificate: votes that justify entering a round | type(1) count(2) then kind(1) value(32, not for nil) address(20) signature(64) each |
//! | `T` | log only: a timeout that fired | kind(1) |
//! | `B` | log only: a block that was executed, with its verdict | valid_round(4) value(32) address(20) valid(1) |
//!
//! Decoders refuse what no encoder writes: unknown kinds, rounds beyond [`MAX_ROUND`], more signatures than
//! [`MAX_VALIDATORS`], missing and trailing bytes. They do not know whether a signature verifies.
use crate::context::{
    round_from, round_number, vote_kind, Address, Height, Network, PolkaCertificate, Proposal, RoundCertificate, Signature, SignedProposal,
    SignedVote, Value, Vote,
};
use crate::effect::TimerKind;
use cityid_core::error::Error;
use cityid_core::vote::{VoteKind, MAX_ROUND, MAX_VALIDATORS, NO_ROUND};
use malachitebft_core_consensus::{Input, ProposedValue};
use malachitebft_core_types::{
    NilOrVal, PolkaSignature, Round, RoundCertificateType, RoundSignature, Timeout, Validity, ValueOrigin, VoteType,
};

/// No message is longer: a round certificate of the largest validator set.
pub const MAX_MESSAGE_BYTES: usize = 16 + MAX_VALIDATORS * (1 + 32 + 20 + 64);

/// The height a message or log entry is for, without parsing the rest.
pub fn message_height(bytes: &[u8]) -> Result<u64, Error> {
    let mut reader = Reader { rest: bytes };
    reader.byte()?;
    reader.u64()
}

/// Parses a message from another city.
pub(crate) fn decode_message(bytes: &[u8]) -> Result<Input<Network>, Error> {
    if bytes.len() > MAX_MESSAGE_BYTES {
        return Err(Error::malformed(format!("a consensus message of {} bytes is too long: at most {MAX_MESSAGE_BYTES} fit", bytes.len())));
    }
    let mut reader = Reader { rest: bytes };
    let kind = reader.byte()?;
    let input = match kind {
        POLKA => Input::PolkaCertificate(polka_certificate(&mut reader)?),
        ROUND => Input::RoundCertificate(round_certificate(&mut reader)?),
        TIMEOUT | BLOCK => {
            return Err(Error::malformed("a log entry was sent as a consensus message; only the node's own log holds these"))
        }
        other => signed_message(VoteKind::parse(other)?, &mut reader)?,
    };
    reader.end()?;
    Ok(input)
}

/// Reads a message or log entry and writes it again, for checks that every message has one form only.
pub fn rewritten(bytes: &[u8]) -> Result<Vec<u8>, Error> {
    let input = decode_entry(bytes)?;
    match &input {
        Input::RoundCertificate(certificate) => Some(encode_round_certificate(certificate)),
        other => message_height(bytes).ok().and_then(|height| encode_entry(height, other)),
    }
    .ok_or_else(|| Error::malformed("a message of a kind that is not written"))
}

/// Parses an entry of this node's own log.
pub(crate) fn decode_entry(bytes: &[u8]) -> Result<Input<Network>, Error> {
    let mut reader = Reader { rest: bytes };
    let input = match reader.byte()? {
        TIMEOUT => {
            reader.u64()?;
            let round = reader.round()?;
            Input::TimeoutElapsed(Timeout::new(round, TimerKind::from_byte(reader.byte()?)?.timeout()))
        }
        BLOCK => {
            let height = Height(reader.u64()?);
            let round = reader.round()?;
            let valid_round = reader.optional_round()?;
            let value = Value(reader.array()?);
            let proposer = Address(reader.array()?);
            let validity = match reader.byte()? {
                0 => Validity::Invalid,
                1 => Validity::Valid,
                other => return Err(Error::malformed(format!("a logged verdict is 0 or 1, not {other}"))),
            };
            let proposed = ProposedValue { height, round, valid_round, proposer, value, validity };
            Input::ProposedValue(proposed, ValueOrigin::Consensus)
        }
        _ => return decode_message(bytes),
    };
    reader.end()?;
    Ok(input)
}

/// The log entry of an input, or nothing if inputs of its kind are never logged.
pub(crate) fn encode_entry(height: u64, input: &Input<Network>) -> Option<Vec<u8>> {
    match input {
        Input::Vote(vote) => Some(encode_vote(vote)),
        Input::Proposal(proposal) => Some(encode_proposal(proposal)),
        Input::PolkaCertificate(certificate) => Some(encode_polka_certificate(certificate)),
        Input::TimeoutElapsed(timeout) => {
            let mut out = open(TIMEOUT, height, timeout.round);
            out.push(TimerKind::of(timeout.kind)? as u8);
            Some(out)
        }
        Input::ProposedValue(proposed, _) => {
            let mut out = open(BLOCK, proposed.height.0, proposed.round);
            out.extend_from_slice(&round_number(proposed.valid_round).to_be_bytes());
            out.extend_from_slice(&proposed.value.0);
            out.extend_from_slice(&proposed.proposer.0);
            out.push(u8::from(proposed.validity.is_valid()));
            Some(out)
        }
        _ => None,
    }
}

pub(crate) fn encode_vote(vote: &SignedVote) -> Vec<u8> {
    let mut out = open(vote.kind() as u8, vote.height.0, vote.round);
    if let NilOrVal::Val(value) = &vote.value {
        out.extend_from_slice(&value.0);
    }
    out.extend_from_slice(&vote.address.0);
    out.extend_from_slice(&vote.signature.0);
    out
}

pub(crate) fn encode_proposal(proposal: &SignedProposal) -> Vec<u8> {
    let mut out = open(VoteKind::Proposal as u8, proposal.height.0, proposal.round);
    out.extend_from_slice(&round_number(proposal.pol_round).to_be_bytes());
    out.extend_from_slice(&proposal.value.0);
    out.extend_from_slice(&proposal.address.0);
    out.extend_from_slice(&proposal.signature.0);
    out
}

pub(crate) fn encode_polka_certificate(certificate: &PolkaCertificate) -> Vec<u8> {
    let mut out = open(POLKA, certificate.height.0, certificate.round);
    out.extend_from_slice(&certificate.value_id.0);
    put_count(&mut out, certificate.polka_signatures.len());
    for entry in &certificate.polka_signatures {
        out.extend_from_slice(&entry.address.0);
        out.extend_from_slice(&entry.signature.0);
    }
    out
}

pub(crate) fn encode_round_certificate(certificate: &RoundCertificate) -> Vec<u8> {
    let mut out = open(ROUND, certificate.height.0, certificate.round);
    out.push(match certificate.cert_type {
        RoundCertificateType::Skip => 0,
        RoundCertificateType::Precommit => 1,
    });
    put_count(&mut out, certificate.round_signatures.len());
    for entry in &certificate.round_signatures {
        out.push(vote_kind(entry.vote_type, &entry.value_id) as u8);
        if let NilOrVal::Val(value) = &entry.value_id {
            out.extend_from_slice(&value.0);
        }
        out.extend_from_slice(&entry.address.0);
        out.extend_from_slice(&entry.signature.0);
    }
    out
}

fn open(kind: u8, height: u64, round: Round) -> Vec<u8> {
    let mut out = Vec::with_capacity(160);
    out.push(kind);
    out.extend_from_slice(&height.to_be_bytes());
    out.extend_from_slice(&round_number(round).to_be_bytes());
    out
}

/// Certificates hold at most one signature of each validator of a set, so the count always fits.
fn put_count(out: &mut Vec<u8>, count: usize) {
    out.extend_from_slice(&u16::try_from(count).unwrap_or(u16::MAX).to_be_bytes());
}

/// A proposal or vote, after its kind byte.
fn signed_message(kind: VoteKind, reader: &mut Reader<'_>) -> Result<Input<Network>, Error> {
    let height = Height(reader.u64()?);
    let round = reader.round()?;
    let Some(vote_type) = vote_type(kind) else {
        let pol_round = reader.optional_round()?;
        let value = Value(reader.array()?);
        let address = Address(reader.array()?);
        let proposal = Proposal { height, round, value, pol_round, address };
        return Ok(Input::Proposal(SignedProposal::new(proposal, Signature(reader.array()?))));
    };
    let value = reader.value_of(kind)?;
    let address = Address(reader.array()?);
    let vote = Vote { vote_type, height, round, value, address };
    Ok(Input::Vote(SignedVote::new(vote, Signature(reader.array()?))))
}

fn polka_certificate(reader: &mut Reader<'_>) -> Result<PolkaCertificate, Error> {
    let height = Height(reader.u64()?);
    let round = reader.round()?;
    let value_id = Value(reader.array()?);
    let count = reader.count(20 + 64)?;
    let mut polka_signatures = Vec::with_capacity(count);
    for _ in 0..count {
        polka_signatures.push(PolkaSignature::new(Address(reader.array()?), Signature(reader.array()?)));
    }
    Ok(PolkaCertificate { height, round, value_id, polka_signatures })
}

fn round_certificate(reader: &mut Reader<'_>) -> Result<RoundCertificate, Error> {
    let height = Height(reader.u64()?);
    let round = reader.round()?;
    let cert_type = match reader.byte()? {
        0 => RoundCertificateType::Skip,
        1 => RoundCertificateType::Precommit,
        other => return Err(Error::malformed(format!("unknown type {other} of a round certificate; known: 0 (skip), 1 (precommit)"))),
    };
    let count = reader.count(1 + 20 + 64)?;
    let mut round_signatures = Vec::with_capacity(count);
    for _ in 0..count {
        let kind = VoteKind::parse(reader.byte()?)?;
        let vote_type = vote_type(kind).ok_or_else(|| Error::malformed("a round certificate holds votes only, and this one a proposal"))?;
        let value = reader.value_of(kind)?;
        let address = Address(reader.array()?);
        round_signatures.push(RoundSignature::new(vote_type, value, address, Signature(reader.array()?)));
    }
    Ok(RoundCertificate { height, round, cert_type, round_signatures })
}

/// Prevote or precommit; nothing for a proposal.
fn vote_type(kind: VoteKind) -> Option<VoteType> {
    match kind {
        VoteKind::Proposal => None,
        VoteKind::PrevoteValue | VoteKind::PrevoteNil => Some(VoteType::Prevote),
        VoteKind::PrecommitValue | VoteKind::PrecommitNil => Some(VoteType::Precommit),
    }
}

/// Takes fields off the front of a message.
struct Reader<'a> {
    rest: &'a [u8],
}

impl Reader<'_> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let (field, rest) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or_else(|| Error::malformed(format!("a consensus message ends {} bytes early; send it whole", N - self.rest.len())))?;
        self.rest = rest;
        Ok(*field)
    }

    fn byte(&mut self) -> Result<u8, Error> {
        self.array().map(|[byte]| byte)
    }

    fn u64(&mut self) -> Result<u64, Error> {
        self.array().map(u64::from_be_bytes)
    }

    fn round(&mut self) -> Result<Round, Error> {
        match self.optional_round()? {
            Round::Nil => Err(Error::malformed("a consensus message names no round; rounds start at 0")),
            round => Ok(round),
        }
    }

    /// −1 is "none"; every other negative number is refused, so that there is one encoding.
    fn optional_round(&mut self) -> Result<Round, Error> {
        let number = self.array().map(i32::from_be_bytes)?;
        if number < NO_ROUND {
            return Err(Error::malformed(format!("round {number} is out of range: 0 to {MAX_ROUND}, or -1 for none")));
        }
        Ok(round_from(number))
    }

    fn value_of(&mut self, kind: VoteKind) -> Result<NilOrVal<Value>, Error> {
        if kind.names_value() {
            self.array().map(|value| NilOrVal::Val(Value(value)))
        } else {
            Ok(NilOrVal::Nil)
        }
    }

    /// A count of signatures that take at least `least` bytes each: what the message cannot hold is refused before room is made.
    fn count(&mut self, least: usize) -> Result<usize, Error> {
        let count = usize::from(self.array().map(u16::from_be_bytes)?);
        if count > MAX_VALIDATORS {
            return Err(Error::malformed(format!("a certificate of {count} signatures is too large: at most {MAX_VALIDATORS} fit")));
        }
        if count > self.rest.len() / least {
            return Err(Error::malformed(format!(
                "a certificate of {count} signatures in {} bytes ends early; send it whole",
                self.rest.len()
            )));
        }
        Ok(count)
    }

    fn end(&self) -> Result<(), Error> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(Error::malformed(format!("{} bytes follow the end of a consensus message; none may", self.rest.len())))
        }
    }
}

const POLKA: u8 = b'K';
const ROUND: u8 = b'R';
const TIMEOUT: u8 = b'T';
const BLOCK: u8 = b'B';

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    /// One of everything, as it would be logged or sent.
    fn samples() -> Vec<Vec<u8>> {
        let (address, signature) = (Address([3; 20]), Signature([4; 64]));
        let value = NilOrVal::Val(Value([5; 32]));
        let vote = |vote_type, value| Vote { vote_type, height: Height(7), round: Round::new(2), value, address };
        let proposal = |pol_round| Proposal { height: Height(7), round: Round::new(2), value: Value([5; 32]), pol_round, address };
        let mut out = Vec::new();
        for vote_type in [VoteType::Prevote, VoteType::Precommit] {
            out.push(encode_vote(&SignedVote::new(vote(vote_type, NilOrVal::Nil), signature)));
            out.push(encode_vote(&SignedVote::new(vote(vote_type, value), signature)));
        }
        for pol_round in [Round::Nil, Round::new(0), Round::new(1)] {
            out.push(encode_proposal(&SignedProposal::new(proposal(pol_round), signature)));
        }
        out.push(encode_polka_certificate(&PolkaCertificate {
            height: Height(7),
            round: Round::new(2),
            value_id: Value([5; 32]),
            polka_signatures: vec![PolkaSignature::new(address, signature); 3],
        }));
        for cert_type in [RoundCertificateType::Skip, RoundCertificateType::Precommit] {
            out.push(encode_round_certificate(&RoundCertificate {
                height: Height(7),
                round: Round::new(2),
                cert_type,
                round_signatures: vec![
                    RoundSignature::new(VoteType::Precommit, NilOrVal::Nil, address, signature),
                    RoundSignature::new(VoteType::Prevote, value, address, signature),
                ],
            }));
        }
        out
    }

    #[test]
    fn every_message_survives_the_round_trip_and_shows_its_height() {
        for bytes in samples() {
            assert_eq!(decode_message(&bytes), decode_entry(&bytes));
            assert_eq!(rewritten(&bytes), Ok(bytes.clone()));
            assert_eq!(message_height(&bytes), Ok(7));
            assert!(bytes.len() <= MAX_MESSAGE_BYTES);
        }
    }

    #[test]
    fn log_entries_survive_the_round_trip_and_are_no_messages() {
        let proposed = |validity| ProposedValue {
            height: Height(7),
            round: Round::new(2),
            valid_round: Round::Nil,
            proposer: Address([3; 20]),
            value: Value([5; 32]),
            validity,
        };
        let inputs = [
            Input::TimeoutElapsed(Timeout::propose(Round::new(2))),
            Input::TimeoutElapsed(Timeout::prevote(Round::new(2))),
            Input::TimeoutElapsed(Timeout::precommit(Round::new(2))),
            Input::ProposedValue(proposed(Validity::Valid), ValueOrigin::Consensus),
            Input::ProposedValue(proposed(Validity::Invalid), ValueOrigin::Consensus),
        ];
        for input in inputs {
            let bytes = encode_entry(7, &input).unwrap();
            assert_eq!(decode_entry(&bytes).unwrap(), input);
            assert_eq!(message_height(&bytes), Ok(7));
            assert!(decode_message(&bytes).is_err());
            for end in 0..bytes.len() {
                assert!(decode_entry(&bytes[..end]).is_err());
            }
        }
    }

    #[test]
    fn cut_and_lengthened_messages_are_refused() {
        for bytes in samples() {
            for end in 0..bytes.len() {
                assert!(decode_message(&bytes[..end]).is_err(), "{end} of {}", bytes.len());
            }
            assert!(decode_message(&[bytes.as_slice(), &[0]].concat()).is_err());
        }
        assert!(message_height(&[b'v', 0, 0]).is_err());
    }

    #[test]
    fn a_count_beyond_the_message_is_refused_before_room_is_made() {
        let mut polka = [&[b'K'][..], &[0; 12], &[5; 32], &[4, 0]].concat();
        let message = |bytes: &[u8]| decode_message(bytes).unwrap_err().to_string();
        assert!(message(&polka).contains("1024 signatures in 0 bytes"), "{}", message(&polka));
        polka.extend_from_slice(&[0; 84 * 1023]);
        assert!(message(&polka).contains("1024 signatures in"));
        polka.extend_from_slice(&[0; 84]);
        assert!(decode_message(&polka).is_ok(), "the control");
    }

    #[test]
    fn out_of_range_fields_are_refused() {
        let vote = samples().remove(0);
        let mut kind = vote.clone();
        kind[0] = 0;
        let mut round = vote.clone();
        round[9..13].copy_from_slice(&[0x80, 0, 0, 0]);
        let mut none = vote.clone();
        none[9..13].copy_from_slice(&[0xff; 4]);
        let mut count = encode_polka_certificate(&PolkaCertificate {
            height: Height(1),
            round: Round::new(0),
            value_id: Value([0; 32]),
            polka_signatures: Vec::new(),
        });
        count[45..47].copy_from_slice(&[0xff, 0xff]);
        for (name, bytes) in
            [("kind", kind), ("round", round), ("no round", none), ("count", count), ("length", vec![b'R'; MAX_MESSAGE_BYTES + 1])]
        {
            assert!(matches!(decode_message(&bytes), Err(Error::Malformed(_))), "{name}");
        }
        assert!(decode_message(&vote).is_ok());
    }
}
