//! Headers, validator sets, sign-bytes and commit certificates.
