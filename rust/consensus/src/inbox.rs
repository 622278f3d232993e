//! What other cities sent: sorted by height, refused where it cannot count, verified in one batch.
//!
//! Malachite would take the messages as they are and verify them one by one. Here the whole inbox is verified together
//! first, so that Malachite's own questions are answered from memory. Nothing is verified that Malachite drops unseen.
//!
//! Messages of the next height are early, not wrong: another city may be a step ahead. They are verified too, and a few of
//! each validator wait in Malachite's queue. Whatever is older, or further ahead, is counted and dropped.
use crate::codec::decode_message;
use crate::context::{Address, Height, Network, PolkaCertificate, RoundCertificate, SignedVote};
use crate::engine::{Counters, State};
use crate::host::Host;
use crate::verifier::{polka_claims, round_claims, Claim};
use malachitebft_core_consensus::{Input, MAX_FUTURE_ROUND_LOOKAHEAD};
use malachitebft_core_types::{Round, RoundCertificateType};
use std::collections::{BTreeMap, BTreeSet};

/// Messages of the next height that one validator may leave in the queue: proposal and votes of two rounds, and some.
pub(crate) const EARLY_PER_VALIDATOR: u8 = 8;

/// How many early messages of each validator wait for the next height.
pub(crate) type Early = BTreeMap<Address, u8>;

/// Sorts and verifies an inbox; what is left goes into Malachite, in the order it came.
pub(crate) fn admit(messages: &[&[u8]], state: &State, host: &mut Host, early: &mut Early, counters: &mut Counters) -> Vec<Input<Network>> {
    let mut claims: Vec<Claim> = Vec::new();
    let mut sorted: Vec<Sorted> = Vec::new();
    for (position, bytes) in messages.iter().enumerate() {
        match sort(bytes, state, host, early) {
            Ok(taken) => {
                let first = claims.len();
                claims.extend(taken.claims);
                sorted.push(Sorted { position, input: taken.input, first, end: claims.len(), early: taken.early });
            }
            Err(Dropped::Stale) => counters.stale += 1,
            Err(Dropped::Ahead) => counters.ahead += 1,
            Err(Dropped::Refused(reason)) => {
                counters.malformed += 1;
                host.refuse(Some(position), reason);
            }
        }
    }
    let verdicts = host.verifier.check_all(&claims);
    let mut admitted = Vec::with_capacity(sorted.len());
    let mut queued: BTreeSet<&[u8]> = BTreeSet::new();
    for message in sorted {
        if !verdicts[message.first..message.end].iter().all(|good| *good) {
            counters.forged += 1;
            host.refuse(Some(message.position), "a consensus message is refused: a signature in it does not verify");
            continue;
        }
        if let Some(author) = message.early {
            // A copy must not use up its author's share of the queue.
            let copy = !queued.insert(messages[message.position]);
            if copy || full(early, &author) {
                counters.ahead += 1;
                continue;
            }
            *early.entry(author).or_default() += 1;
            counters.early += 1;
        }
        admitted.push(message.input);
    }
    admitted
}

/// A message that may count, and which of the inbox's claims must hold for it.
struct Sorted {
    position: usize,
    input: Input<Network>,
    first: usize,
    end: usize,
    early: Option<Address>,
}

/// One message that may count, and what must hold for it.
struct Taken {
    input: Input<Network>,
    claims: Vec<Claim>,
    /// Whose it is, when it is for the next height.
    early: Option<Address>,
}

/// Why a message does not count.
enum Dropped {
    /// Its height is over.
    Stale,
    /// It is further ahead than is kept, or waits already.
    Ahead,
    /// It can never count, for this reason.
    Refused(String),
}

/// Decides about one message by everything but its signatures.
fn sort(bytes: &[u8], state: &State, host: &Host, early: &Early) -> Result<Taken, Dropped> {
    let input = decode_message(bytes).map_err(|error| Dropped::Refused(error.to_string()))?;
    let (network, set) = (&host.network, &host.set);
    let (height, author, claim) = match &input {
        Input::Vote(vote) => (vote.height, Some(vote.address), Claim::of_vote(network, set, vote)),
        Input::Proposal(proposal) => (proposal.height, Some(proposal.address), Claim::of_proposal(network, set, proposal)),
        Input::PolkaCertificate(certificate) => (certificate.height, None, None),
        Input::RoundCertificate(certificate) => (certificate.height, None, None),
        _ => return Err(Dropped::Refused("a consensus message of an unknown kind is refused".into())),
    };
    let present = state.height();
    if height < present {
        return Err(Dropped::Stale);
    }
    if height > present {
        // Certificates are of no use early. The set of the next height may differ from this one: the messages of a newcomer
        // are the node's to keep until then.
        let (Some(author), Some(claim)) = (author, claim) else {
            return Err(Dropped::Ahead);
        };
        let is_next = height == Height(present.0.saturating_add(1));
        if !is_next || full(early, &author) || host.verifier.knows(&claim) {
            return Err(Dropped::Ahead);
        }
        return Ok(Taken { input, claims: vec![claim], early: Some(author) });
    }
    if let (Some(author), None) = (author, &claim) {
        return Err(Dropped::Refused(format!(
            "a consensus message of {author} is refused: that is no validator of height {height}, or not the proposer of the round"
        )));
    }
    let claims = match &input {
        // What Malachite drops before it asks for a verification is not verified here either.
        Input::Vote(vote) if is_useless(vote, state) => Vec::new(),
        Input::Proposal(proposal) if beyond_lookahead(state, proposal.round) => Vec::new(),
        Input::PolkaCertificate(certificate) => polka_certificate_claims(certificate, state, host)?,
        Input::RoundCertificate(certificate) => round_certificate_claims(certificate, state, host)?,
        _ => claim.into_iter().collect(),
    };
    Ok(Taken { input, claims, early: None })
}

/// Whether Malachite knows this vote, or all it wants to know of its author.
fn is_useless(vote: &SignedVote, state: &State) -> bool {
    let votes = state.driver.votes();
    beyond_lookahead(state, vote.round) || votes.has_vote(vote) || votes.is_saturated_conflict(vote)
}

fn full(early: &Early, author: &Address) -> bool {
    early.get(author).is_some_and(|waiting| *waiting >= EARLY_PER_VALIDATOR)
}

/// The claims of a polka certificate; none if Malachite knows it already.
fn polka_certificate_claims(certificate: &PolkaCertificate, state: &State, host: &Host) -> Result<Vec<Claim>, Dropped> {
    if state.polka_certificate(certificate.round, &certificate.value_id).is_some() {
        return Ok(Vec::new());
    }
    polka_claims(&host.network, &host.set, certificate, state.params.threshold_params)
        .map_err(|error| Dropped::Refused(format!("a polka certificate is refused: {error}")))
}

/// The claims of a round certificate; none if it leads to no new round, or all its votes are known.
fn round_certificate_claims(certificate: &RoundCertificate, state: &State, host: &Host) -> Result<Vec<Claim>, Dropped> {
    let behind = match certificate.cert_type {
        RoundCertificateType::Precommit => certificate.round < state.round(),
        RoundCertificateType::Skip => certificate.round <= state.round(),
    };
    let votes = state.driver.votes();
    if behind || certificate.votes(&host.network).all(|vote| votes.has_vote(&vote)) {
        return Ok(Vec::new());
    }
    round_claims(&host.network, &host.set, certificate, state.params.threshold_params)
        .map_err(|error| Dropped::Refused(format!("a round certificate is refused: {error}")))
}

/// Malachite drops votes and proposals of rounds this far ahead, unverified.
fn beyond_lookahead(state: &State, round: Round) -> bool {
    round.as_i64() > state.round().as_i64() + i64::from(MAX_FUTURE_ROUND_LOOKAHEAD)
}
