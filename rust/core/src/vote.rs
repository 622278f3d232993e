//! What validators sign, and the certificate that enough of those signatures make.
//!
//! Sign-bytes (P35) are binary, of a fixed layout, and distinct for every kind of message: a precommit can never be
//! read as a prevote, a proposal, a checkpoint or a transaction. They do not hold the voter's address: the key says who
//! voted, and one message for all voters lets a batch of votes share its bytes.
//!
//! A commit certificate (P36) is the precommits of more than two thirds of the validators for one value of one height
//! and round. It names its signers by their position in a validator set that the caller must already trust: who the
//! validators are is never taken from the certificate. One city, one vote.
use crate::error::Error;
use crate::hash::Hash;
use crate::mutants::{planted, Mutant};
use crate::signature::{Item, Verifier};
use std::collections::BTreeSet;

/// Largest validator set that any message, certificate or queue of ours makes room for.
pub const MAX_VALIDATORS: usize = 1024;

/// Largest round. Rounds are signed as 32-bit two's complement, where −1 means "none".
pub const MAX_ROUND: u32 = i32::MAX as u32;

/// The `pol_round` of every message that names no earlier quorum of prevotes.
pub const NO_ROUND: i32 = -1;

/// What a signature of a validator says. The byte is part of the sign-bytes and opens the message on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum VoteKind {
    /// "I propose this value."
    Proposal = b'P',
    /// "I find this value valid."
    PrevoteValue = b'v',
    /// "I find nothing valid in this round."
    PrevoteNil = b'n',
    /// "I commit to this value, should enough others."
    PrecommitValue = b'V',
    /// "I commit to nothing in this round."
    PrecommitNil = b'N',
}

impl VoteKind {
    /// Reads a kind byte.
    pub fn parse(byte: u8) -> Result<VoteKind, Error> {
        match byte {
            b'P' => Ok(VoteKind::Proposal),
            b'v' => Ok(VoteKind::PrevoteValue),
            b'n' => Ok(VoteKind::PrevoteNil),
            b'V' => Ok(VoteKind::PrecommitValue),
            b'N' => Ok(VoteKind::PrecommitNil),
            other => Err(Error::malformed(format!("unknown kind {other:#04x} of a signed consensus message; known: P, v, n, V, N"))),
        }
    }

    /// Whether messages of this kind name a value; the nil kinds do not.
    pub const fn names_value(self) -> bool {
        !matches!(self, VoteKind::PrevoteNil | VoteKind::PrecommitNil)
    }
}

/// The bytes a validator signs: `"cityid/1/" kind genesis-hash height(8) round(4) pol_round(4) value(32)`, integers
/// big-endian (P35). The value of the nil kinds is left out; `pol_round` is [`NO_ROUND`] in every vote.
pub fn sign_bytes(kind: VoteKind, genesis: &Hash, height: u64, round: i32, pol_round: i32, value: &Hash) -> Vec<u8> {
    let mut out = Vec::with_capacity(96);
    out.extend_from_slice(b"cityid/1/");
    out.push(kind as u8);
    out.extend_from_slice(genesis);
    out.extend_from_slice(&height.to_be_bytes());
    out.extend_from_slice(&round.to_be_bytes());
    out.extend_from_slice(&pol_round.to_be_bytes());
    if kind.names_value() {
        out.extend_from_slice(value);
    }
    out
}

/// One signature of a certificate, with the signer's position in the validator set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitSignature {
    /// Position in the validator set.
    pub index: u16,
    /// Ed25519 signature over the precommit's sign-bytes.
    pub signature: [u8; 64],
}

/// The precommits that decided one value at one height and round.
///
/// Wire form: `height(8) round(4) value(32) validators(2) bitmap signatures(64 each)`, integers big-endian; bit i of the
/// bitmap is mask `0x80 >> (i % 8)` of byte `i / 8`, and says that validator i signed; unused bits are zero. There is one
/// form for each certificate: anything else is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitCertificate {
    /// Height of the decided value.
    pub height: u64,
    /// Round in which it was decided.
    pub round: u32,
    /// The decided value: the log root after the header of `height` (P33).
    pub value: Hash,
    /// Size of the validator set that the positions count in.
    pub validators: u16,
    /// Signatures, ascending by position.
    pub signatures: Vec<CommitSignature>,
}

impl CommitCertificate {
    /// The wire form. The signatures must be ascending by position and below `validators`, as `decode` gives them.
    pub fn encode(&self) -> Vec<u8> {
        let bitmap_bytes = usize::from(self.validators).div_ceil(8);
        let mut out = Vec::with_capacity(FIXED_BYTES + bitmap_bytes + 64 * self.signatures.len());
        out.extend_from_slice(&self.height.to_be_bytes());
        out.extend_from_slice(&self.round.to_be_bytes());
        out.extend_from_slice(&self.value);
        out.extend_from_slice(&self.validators.to_be_bytes());
        let mut bitmap = vec![0u8; bitmap_bytes];
        for entry in &self.signatures {
            if let Some(byte) = bitmap.get_mut(usize::from(entry.index / 8)) {
                *byte |= 0x80 >> (entry.index % 8);
            }
        }
        out.extend_from_slice(&bitmap);
        for entry in &self.signatures {
            out.extend_from_slice(&entry.signature);
        }
        out
    }

    /// Parses the wire form. Refuses an empty or oversized set, padding bits, and missing or trailing bytes.
    pub fn decode(bytes: &[u8]) -> Result<CommitCertificate, Error> {
        let (height, rest) = take::<8>(bytes)?;
        let (round, rest) = take::<4>(rest)?;
        let (value, rest) = take::<32>(rest)?;
        let (validators, rest) = take::<2>(rest)?;
        let round = u32::from_be_bytes(*round);
        if round > MAX_ROUND {
            return Err(Error::malformed(format!("a commit certificate for round {round} is malformed: rounds end at {MAX_ROUND}")));
        }
        let validators = u16::from_be_bytes(*validators);
        let count = usize::from(validators);
        if count == 0 || count > MAX_VALIDATORS {
            return Err(Error::malformed(format!(
                "a commit certificate over {count} validators is malformed: 1 to {MAX_VALIDATORS} are possible"
            )));
        }
        let Some((bitmap, mut rest)) = rest.split_at_checked(count.div_ceil(8)) else {
            return Err(short());
        };
        let signed = |index: usize| bitmap.get(index / 8).is_some_and(|byte| byte & (0x80 >> (index % 8)) != 0);
        if (count..bitmap.len() * 8).any(signed) {
            return Err(Error::malformed("the bitmap of a commit certificate has bits beyond its last validator; they must be zero"));
        }
        let mut signatures = Vec::new();
        for index in 0..validators {
            if signed(usize::from(index)) {
                let (signature, after) = take::<64>(rest)?;
                signatures.push(CommitSignature { index, signature: *signature });
                rest = after;
            }
        }
        if !rest.is_empty() {
            return Err(Error::malformed(format!("{} bytes follow the last signature of a commit certificate; none may", rest.len())));
        }
        Ok(CommitCertificate { height: u64::from_be_bytes(*height), round, value: *value, validators, signatures })
    }

    /// What every signature of this certificate must cover.
    pub fn sign_bytes(&self, genesis: &Hash) -> Vec<u8> {
        // A round above MAX_ROUND cannot be decoded; one built by hand gives bytes that nobody signs.
        let round = i32::try_from(self.round).unwrap_or(NO_ROUND);
        sign_bytes(VoteKind::PrecommitValue, genesis, self.height, round, NO_ROUND, &self.value)
    }
}

/// Checks a certificate under a validator set that the caller trusts: the public keys, in the set's order. Returns how
/// many validators signed (P36). The caller compares height and value with what it wants certified.
///
/// Every signature must verify: one bad signature refuses the whole certificate, even if the others would be enough.
pub fn verify_certificate(genesis: &Hash, validators: &[[u8; 32]], certificate: &CommitCertificate) -> Result<usize, Error> {
    let signers = certificate_signers(validators, certificate)?;
    let message = certificate.sign_bytes(genesis);
    let items: Vec<Item<'_>> = certificate
        .signatures
        .iter()
        .zip(&signers)
        .map(|(entry, key)| Item { key, message: &message, signature: &entry.signature })
        .collect();
    // An offline verifier has no source of randomness. The batch draws its coefficients from the seed and from a hash of
    // every key, message and signature, so with a fixed seed they are still unknown until the signatures are chosen.
    match Verifier::new(0).verify_batch(&items, [0; 32]) {
        Ok(()) => Ok(signers.len()),
        Err(Error::Signature(positions)) => {
            let bad: Vec<u16> =
                positions.iter().filter_map(|position| certificate.signatures.get(*position as usize)).map(|entry| entry.index).collect();
            Err(refused(certificate, format!("the signatures of validators {bad:?} do not verify")))
        }
        Err(other) => Err(other),
    }
}

/// The keys of a certificate's signers, in its order, once everything but the signatures themselves is checked: the set
/// has the size the certificate counts in and no key twice, the positions ascend, and they are more than two thirds.
fn certificate_signers<'a>(validators: &'a [[u8; 32]], certificate: &CommitCertificate) -> Result<Vec<&'a [u8; 32]>, Error> {
    let total = validators.len();
    if total != usize::from(certificate.validators) {
        return Err(refused(certificate, format!("it counts in a set of {} validators, and this set has {total}", certificate.validators)));
    }
    if validators.iter().collect::<BTreeSet<_>>().len() != total {
        return Err(refused(certificate, "the validator set holds one key twice, so its votes cannot be counted".into()));
    }
    if !certificate.signatures.windows(2).all(|pair| pair[0].index < pair[1].index) {
        return Err(refused(certificate, "its signatures are not in ascending order of validators, or one validator signs twice".into()));
    }
    let count = certificate.signatures.len();
    if (count + usize::from(planted(Mutant::QuorumOffByOne))) * 3 <= total * 2 {
        return Err(refused(certificate, format!("{count} of {total} validators signed, and more than two thirds must")));
    }
    certificate
        .signatures
        .iter()
        .map(|entry| validators.get(usize::from(entry.index)))
        .map(|key| key.ok_or_else(|| refused(certificate, "it names a validator beyond the end of the set".into())))
        .collect()
}

fn refused(certificate: &CommitCertificate, why: String) -> Error {
    Error::Certificate(format!(
        "the commit certificate for height {}, round {} is refused: {why}; fetch the certificate from another city",
        certificate.height, certificate.round
    ))
}

fn take<const N: usize>(bytes: &[u8]) -> Result<(&[u8; N], &[u8]), Error> {
    bytes.split_first_chunk::<N>().ok_or_else(short)
}

fn short() -> Error {
    Error::malformed("a commit certificate ends before its last field; send it whole")
}

/// Bytes before the bitmap.
const FIXED_BYTES: usize = 8 + 4 + 32 + 2;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use ed25519_zebra::{SigningKey, VerificationKeyBytes};

    const GENESIS: Hash = [7; 32];

    fn keys(count: u8) -> (Vec<SigningKey>, Vec<[u8; 32]>) {
        let secret: Vec<SigningKey> = (1..=count).map(|seed| SigningKey::from([seed; 32])).collect();
        let public = secret.iter().map(|key| VerificationKeyBytes::from(key).into()).collect();
        (secret, public)
    }

    fn certificate(secret: &[SigningKey], signers: &[u16]) -> CommitCertificate {
        let mut out = CommitCertificate { height: 9, round: 2, value: [5; 32], validators: secret.len() as u16, signatures: Vec::new() };
        let message = out.sign_bytes(&GENESIS);
        for &index in signers {
            out.signatures.push(CommitSignature { index, signature: secret[usize::from(index)].sign(&message).to_bytes() });
        }
        out
    }

    #[test]
    fn sign_bytes_have_the_written_layout() {
        let bytes = sign_bytes(VoteKind::Proposal, &[0xaa; 32], 0x0102_0304_0506_0708, 3, 1, &[0xbb; 32]);
        let mut expected = b"cityid/1/P".to_vec();
        expected.extend_from_slice(&[0xaa; 32]);
        expected.extend_from_slice(&[1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 3, 0, 0, 0, 1]);
        expected.extend_from_slice(&[0xbb; 32]);
        assert_eq!(bytes, expected);
        let nil = sign_bytes(VoteKind::PrecommitNil, &[0xaa; 32], 1, 0, NO_ROUND, &[0xbb; 32]);
        assert_eq!(nil.len(), 10 + 32 + 16);
        assert!(nil.ends_with(&[0, 0, 0, 1, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]));
    }

    #[test]
    fn sign_bytes_differ_in_every_field() {
        let kinds = [VoteKind::Proposal, VoteKind::PrevoteValue, VoteKind::PrevoteNil, VoteKind::PrecommitValue, VoteKind::PrecommitNil];
        let mut seen = BTreeSet::new();
        for kind in kinds {
            assert_eq!(VoteKind::parse(kind as u8), Ok(kind));
            for (genesis, height, round, pol_round) in
                [(1, 1, 0, -1), (2, 1, 0, -1), (1, 2, 0, -1), (1, 1, 1, -1), (1, 1, 0, 0), (1, 1, -1, 0)]
            {
                assert!(seen.insert(sign_bytes(kind, &[genesis; 32], height, round, pol_round, &[9; 32])));
            }
        }
        assert!(VoteKind::parse(b'p').is_err());
    }

    #[test]
    fn quorum_is_more_than_two_thirds() {
        for (count, quorum) in [(1u8, 1u16), (2, 2), (3, 3), (4, 3), (5, 4), (6, 5), (7, 5), (10, 7)] {
            let (secret, public) = keys(count);
            let enough: Vec<u16> = (0..quorum).collect();
            assert_eq!(verify_certificate(&GENESIS, &public, &certificate(&secret, &enough)), Ok(usize::from(quorum)));
            let short = certificate(&secret, &enough[1..]);
            let error = verify_certificate(&GENESIS, &public, &short).unwrap_err();
            assert!(error.to_string().contains("more than two thirds"), "{error}");
        }
    }

    #[test]
    fn every_flipped_bit_is_refused() {
        let (secret, public) = keys(4);
        let good = certificate(&secret, &[0, 2, 3]);
        let bytes = good.encode();
        assert_eq!(bytes.len(), 46 + 1 + 3 * 64);
        // The control: untouched bytes parse, verify, and encode back.
        assert_eq!(CommitCertificate::decode(&bytes), Ok(good));
        assert_eq!(check(&public, &bytes), Ok(3));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 0x80 >> (bit % 8);
            assert!(check(&public, &flipped).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn only_one_encoding_is_accepted() {
        let (secret, public) = keys(7);
        let bytes = certificate(&secret, &[0, 1, 2, 4, 6]).encode();
        for end in 0..bytes.len() {
            assert!(matches!(CommitCertificate::decode(&bytes[..end]), Err(Error::Malformed(_))), "{end}");
        }
        let longer = [bytes.as_slice(), &[0]].concat();
        assert!(matches!(CommitCertificate::decode(&longer), Err(Error::Malformed(_))));
        let mut padded = bytes.clone();
        padded[46] |= 1; // validator 7 of 0..7
        assert!(matches!(CommitCertificate::decode(&padded), Err(Error::Malformed(_))));
        let mut empty = bytes.clone();
        empty[44..46].copy_from_slice(&[0, 0]);
        assert!(matches!(CommitCertificate::decode(&empty), Err(Error::Malformed(_))));
        let mut oversized = bytes.clone();
        oversized[44..46].copy_from_slice(&[4, 1]);
        assert!(matches!(CommitCertificate::decode(&oversized), Err(Error::Malformed(_))));
        assert_eq!(check(&public, &bytes), Ok(5));
    }

    #[test]
    fn another_network_set_or_signer_is_refused() {
        let (secret, public) = keys(4);
        let good = certificate(&secret, &[0, 1, 2]);
        assert!(matches!(verify_certificate(&[8; 32], &public, &good), Err(Error::Certificate(_))));
        assert!(matches!(verify_certificate(&GENESIS, &public[..3], &good), Err(Error::Certificate(_))));
        let mut swapped = public.clone();
        swapped.swap(0, 1);
        assert!(matches!(verify_certificate(&GENESIS, &swapped, &good), Err(Error::Certificate(_))));
        let doubled = [public[0], public[0], public[0], public[0]];
        assert!(matches!(verify_certificate(&GENESIS, &doubled, &good), Err(Error::Certificate(_))));
        // One signer counted three times, which the wire form cannot even express.
        let mut repeated = good.clone();
        repeated.signatures = vec![good.signatures[0].clone(); 3];
        assert!(matches!(verify_certificate(&GENESIS, &public, &repeated), Err(Error::Certificate(_))));
        let mut beyond = good.clone();
        beyond.signatures[2].index = 4;
        assert!(matches!(verify_certificate(&GENESIS, &public, &beyond), Err(Error::Certificate(_))));
        // Four signatures, one of them bad: refused, although the other three would be a quorum.
        let mut tainted = certificate(&secret, &[0, 1, 2, 3]);
        tainted.signatures[3].signature[0] ^= 1;
        assert!(matches!(verify_certificate(&GENESIS, &public, &tainted), Err(Error::Certificate(_))));
    }

    fn check(public: &[[u8; 32]], bytes: &[u8]) -> Result<usize, Error> {
        verify_certificate(&GENESIS, public, &CommitCertificate::decode(bytes)?)
    }
}
