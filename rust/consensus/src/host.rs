//! Answers what Malachite asks while it works on one input: signatures are made and checked here at once, everything else
//! becomes an [`Effect`] for the node, in order.
use crate::codec::{encode_entry, encode_polka_certificate, encode_proposal, encode_round_certificate, encode_vote};
use crate::context::{
    round_number, Address, CommitCertificate as Decided, Network, PublicKey, Signature, SignedProposal, SignedVote, ValidatorSet,
};
use crate::effect::{Effect, Evidence, Role, TimerKind};
use crate::verifier::{Claim, Verifier};
use cityid_core::vote::{CommitCertificate, CommitSignature};
use malachitebft_core_consensus as malachite;
use malachitebft_core_consensus::{ConsensusMsg, LivenessMsg, MisbehaviorEvidence, Resumable, Resume, SignedConsensusMsg};
use malachitebft_core_types::{LinearTimeouts, Timeout};

/// Signs with the validator's consensus key, which the engine never sees.
pub trait Signer: Send + Sync {
    /// An Ed25519 signature over the message, or why there is none. The engine stops for good on an error: a validator that
    /// cannot sign must not go on as if it had voted.
    fn sign(&mut self, message: &[u8]) -> Result<[u8; 64], String>;
}

/// Everything of the engine but Malachite's own state.
pub(crate) struct Host {
    pub network: Network,
    pub key: PublicKey,
    pub address: Address,
    pub signer: Box<dyn Signer>,
    pub timeouts: LinearTimeouts,
    pub verifier: Verifier,
    /// The validators of the present height.
    pub set: ValidatorSet,
    /// What the node has to do for the present call.
    pub effects: Vec<Effect>,
    /// Why the engine stopped, if it did.
    pub stopped: Option<String>,
    pub signed: u64,
    #[cfg(feature = "mutants")]
    pub unlocked: crate::unlocked::Unlocked,
}

impl Host {
    /// Handles one request of Malachite. An error ends the present input; it only happens when the engine stops.
    pub fn handle(&mut self, request: malachite::Effect<Network>) -> Result<Resume<Network>, String> {
        use malachite::Effect as Request;
        match request {
            Request::SignVote(vote, resume) => {
                #[cfg(feature = "mutants")]
                let vote = self.unlocked.vote(vote);
                let message = self.network.vote_bytes(&vote);
                let signature = self.sign(vote.height.0, message)?;
                Ok(resume.resume_with(SignedVote::new(vote, signature)))
            }
            Request::SignProposal(proposal, resume) => {
                let message = self.network.proposal_bytes(&proposal);
                let signature = self.sign(proposal.height.0, message)?;
                Ok(resume.resume_with(SignedProposal::new(proposal, signature)))
            }
            Request::VerifySignature(signed, key, resume) => {
                let (height, message) = match &signed.message {
                    ConsensusMsg::Vote(vote) => (vote.height.0, self.network.vote_bytes(vote)),
                    ConsensusMsg::Proposal(proposal) => (proposal.height.0, self.network.proposal_bytes(proposal)),
                };
                let good = self.verifier.check(&Claim::new(height, key, signed.signature, message));
                Ok(resume.resume_with(good))
            }
            Request::VerifyCommitCertificate(certificate, set, thresholds, resume) => {
                let verdict = self.verifier.check_commit(&self.network, &set, &certificate, thresholds);
                Ok(resume.resume_with(verdict))
            }
            Request::VerifyExtendedCommitCertificate(certificate, set, thresholds, _, resume) => {
                let certificate = certificate.trim_vote_extensions();
                let verdict = self.verifier.check_commit(&self.network, &set, &certificate, thresholds);
                Ok(resume.resume_with(verdict))
            }
            Request::VerifyPolkaCertificate(certificate, set, thresholds, resume) => {
                let verdict = self.verifier.check_polka(&self.network, &set, &certificate, thresholds);
                Ok(resume.resume_with(verdict))
            }
            Request::VerifyRoundCertificate(certificate, set, thresholds, resume) => {
                let verdict = self.verifier.check_round(&self.network, &set, &certificate, thresholds);
                Ok(resume.resume_with(verdict))
            }
            // Vote extensions are disabled at every height: these two are never asked.
            Request::ExtendVote(_, _, _, _, resume) => Ok(resume.resume_with(None)),
            Request::VerifyVoteExtension(_, _, _, _, _, _, resume) => {
                Ok(resume.resume_with(Err(malachite::VoteExtensionError::InvalidVoteExtension)))
            }
            other => {
                self.tell(other);
                Ok(Resume::Continue)
            }
        }
    }

    /// Turns a request that has no answer into an effect.
    fn tell(&mut self, request: malachite::Effect<Network>) {
        use malachite::Effect as Request;
        let effect = match request {
            Request::PublishConsensusMsg(SignedConsensusMsg::Vote(vote), _) | Request::PublishLivenessMsg(LivenessMsg::Vote(vote), _) => {
                Effect::Publish(encode_vote(&vote))
            }
            Request::PublishConsensusMsg(SignedConsensusMsg::Proposal(proposal), _) => Effect::Publish(encode_proposal(&proposal)),
            Request::PublishLivenessMsg(LivenessMsg::PolkaCertificate(certificate), _) => {
                Effect::Publish(encode_polka_certificate(&certificate))
            }
            Request::PublishLivenessMsg(LivenessMsg::SkipRoundCertificate(certificate), _)
            | Request::RepublishRoundCertificate(certificate, _) => Effect::Publish(encode_round_certificate(&certificate)),
            Request::RepublishVote(vote, _) => Effect::Publish(encode_vote(&vote)),
            Request::WalAppend(height, input, _) => match encode_entry(height.0, &input) {
                Some(entry) => Effect::Log { height: height.0, entry },
                // Going on would mean to act on something that a restart forgets.
                None => return self.stop(format!("an input that the log has no form for must be logged: {input:?}")),
            },
            Request::ScheduleTimeout(timeout, _) => return self.schedule(timeout),
            Request::CancelTimeout(timeout, _) => match TimerKind::of(timeout.kind) {
                Some(kind) => Effect::Cancel { kind, round: round_number(timeout.round) },
                None => return,
            },
            Request::CancelAllTimeouts(_) => Effect::CancelAll,
            Request::StartRound(height, round, proposer, role, _) => Effect::StartRound {
                height: height.0,
                round: round_number(round),
                proposer: self.index_of(&proposer),
                role: match role {
                    malachite::Role::Proposer => Role::Proposer,
                    malachite::Role::Validator => Role::Validator,
                    malachite::Role::None => Role::Follower,
                },
            },
            Request::GetValue(height, round, _, _) => Effect::GetValue { height: height.0, round: round_number(round) },
            Request::RestreamProposal(height, round, valid_round, _, value, _) => {
                Effect::Restream { height: height.0, round: round_number(round), valid_round: round_number(valid_round), value: value.0 }
            }
            Request::Decide(certificate, _, _) => Effect::Decide {
                height: certificate.height.0,
                round: round_number(certificate.round),
                value: certificate.value_id.0,
                certificate: self.wire_certificate(&certificate),
            },
            Request::Finalize(certificate, _, evidence, _) => Effect::Finalize {
                height: certificate.height.0,
                certificate: self.wire_certificate(&certificate),
                evidence: wire_evidence(evidence),
            },
            Request::CertVerifiedSyncValue(response, proposer, _) => Effect::SyncVerified {
                height: response.certificate.height.0,
                round: round_number(response.certificate.round),
                value: response.certificate.value_id.0,
                proposer: self.index_of(&proposer),
            },
            Request::CertRejectedSyncValue(_, height, error, _) => Effect::SyncRejected { height: height.0, reason: error.to_string() },
            // What needs an answer was answered by `handle`.
            other => return self.stop(format!("a request of the consensus core is not handled: {other:?}")),
        };
        self.effects.push(effect);
    }

    /// Stops the engine for good.
    pub fn stop(&mut self, reason: String) {
        self.effects.push(Effect::Fatal(reason.clone()));
        self.stopped = Some(reason);
    }

    /// Reports something that was refused.
    pub fn refuse(&mut self, position: Option<usize>, reason: impl Into<String>) {
        self.effects.push(Effect::Error { reason: reason.into(), position });
    }

    /// A signature that is checked before it is used: a signer with the wrong key would otherwise split this node from
    /// the others, who refuse what it counts.
    fn sign(&mut self, height: u64, message: Vec<u8>) -> Result<Signature, String> {
        let signature = match self.signer.sign(&message) {
            Ok(signature) => Signature(signature),
            Err(reason) => {
                self.stop(format!("the signer gave no signature ({reason})"));
                return Err(reason);
            }
        };
        if !self.verifier.check(&Claim::new(height, self.key, signature, message)) {
            self.stop("the signer's signature does not verify under this validator's public key".into());
            return Err("wrong key".into());
        }
        self.signed += 1;
        Ok(signature)
    }

    fn schedule(&mut self, timeout: Timeout) {
        let Some(kind) = TimerKind::of(timeout.kind) else {
            return;
        };
        let duration = self.timeouts.duration_for(timeout);
        let duration_us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.effects.push(Effect::Timer { kind, round: round_number(timeout.round), duration_us });
    }

    /// Position of a validator that Malachite took from this very set.
    fn index_of(&self, address: &Address) -> u16 {
        self.set.find(address).map_or(0, |validator| validator.index)
    }

    fn wire_certificate(&self, decided: &Decided) -> Vec<u8> {
        let mut signatures: Vec<CommitSignature> = decided
            .commit_signatures
            .iter()
            .map(|entry| CommitSignature { index: self.index_of(&entry.address), signature: entry.signature.0 })
            .collect();
        signatures.sort_by_key(|entry| entry.index);
        let certificate = CommitCertificate {
            height: decided.height.0,
            round: decided.round.as_u32().unwrap_or(0),
            value: decided.value_id.0,
            validators: self.set.count(),
            signatures,
        };
        certificate.encode()
    }
}

fn wire_evidence(evidence: MisbehaviorEvidence<Network>) -> Vec<Evidence> {
    let votes = evidence.votes.into_iter().flat_map(|(_, pairs)| pairs);
    let proposals = evidence.proposals.into_iter().flat_map(|(_, pairs)| pairs);
    votes
        .map(|(first, second)| Evidence { kind: "vote", first: encode_vote(&first), second: encode_vote(&second) })
        .chain(proposals.map(|(first, second)| Evidence {
            kind: "proposal",
            first: encode_proposal(&first),
            second: encode_proposal(&second),
        }))
        .collect()
}
