//! The ledger: transactions, the distribution rule, speculative execution.
pub mod operation;
