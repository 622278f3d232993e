//! Ed25519 with ZIP-215 semantics: single and batch verification that agree on every input.
