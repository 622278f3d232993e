//! The ledger: transactions, the distribution rule, speculative execution.
