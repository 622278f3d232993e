//! Codes: grammar, canonical form, check character.
