//! The seam around Malachite: inputs in, effects out.
//!
//! Malachite's consensus core is sans-I/O and suspends at every request. This crate answers what can be answered at once
//! (sign, verify) and turns the rest into a list of [`Effect`]s that the node obeys in order. One call is one step: nothing
//! stays suspended between calls. No clock, no randomness, no I/O: timers are effects, the batch seed is given once.
//!
//! What it relies on the node for: to make log entries durable before it obeys what follows them, to call
//! [`Engine::recover`] with that log after a restart, and to execute a block before it hands in a verdict on it.
//!
//! Files: `engine` is what the node calls; `inbox` sorts and verifies what other cities sent; `host` answers Malachite;
//! `verifier` checks signatures and certificates; `codec` is the wire and log format; `context` fills in Malachite's types.
#![forbid(unsafe_code)]

mod codec;
mod context;
mod effect;
mod engine;
mod host;
mod inbox;
#[cfg(feature = "mutants")]
mod unlocked;
mod verifier;

pub use codec::{message_height, rewritten, MAX_MESSAGE_BYTES};
pub use effect::{Effect, Evidence, Role, TimerKind};
pub use engine::{Counters, Engine, ProposedBlock, Timeouts};
pub use host::Signer;
pub use verifier::VerifyCounters;
