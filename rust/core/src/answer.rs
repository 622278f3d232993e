//! The answer: what a gateway returns about a code, and the verifier that needs nothing but a trust file.
