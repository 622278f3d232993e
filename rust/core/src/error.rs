//! The one error enum of the crate. Each variant is one class of the Python error tree (`cityid.errors`);
//! every message says what is wrong, why, and what to do next.
use std::fmt;

/// What can go wrong on bytes, codes, proofs and rules that somebody else sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The bytes do not parse, or not in their canonical form.
    Malformed(String),
    /// The text breaks the grammar of codes or its check character.
    Code(String),
    /// Well-formed, but forbidden by the distribution rule; `reason` is stable and machine-readable.
    Rule {
        /// Stable reason code, for example `stale_version`.
        reason: &'static str,
        /// What happened and what to do about it.
        message: String,
    },
    /// One or more signatures do not verify; positions in the batch, ascending.
    Signature(Vec<u32>),
    /// A Merkle proof does not lead to the root it claims.
    Proof(String),
    /// A commit certificate lacks signatures, or names another block or validator set.
    Certificate(String),
}

impl Error {
    /// A [`Error::Malformed`] with this message.
    pub fn malformed(message: impl Into<String>) -> Self {
        Error::Malformed(message.into())
    }

    /// A [`Error::Proof`] with this message.
    pub fn proof(message: impl Into<String>) -> Self {
        Error::Proof(message.into())
    }

    /// A [`Error::Rule`] with a stable reason and a message.
    pub fn rule(reason: &'static str, message: impl Into<String>) -> Self {
        Error::Rule { reason, message: message.into() }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Malformed(m) | Error::Code(m) | Error::Proof(m) | Error::Certificate(m) => f.write_str(m),
            Error::Rule { reason, message } => write!(f, "{reason}: {message}"),
            Error::Signature(positions) => {
                write!(
                    f,
                    "{} signature(s) do not verify, at positions {positions:?}; nothing of this batch was accepted from them",
                    positions.len()
                )
            }
        }
    }
}

impl std::error::Error for Error {}
