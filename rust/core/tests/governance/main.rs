//! What the member cities decide together: proposals and votes, every change, changes of the validator set, limits (P58 to P72, P75).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod changes;
mod limits;
mod proposals;
mod random;
mod sets;
mod snapshots;
mod world;
