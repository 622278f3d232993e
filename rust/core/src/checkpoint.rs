//! C2SP checkpoints and timestamped cosignatures.
