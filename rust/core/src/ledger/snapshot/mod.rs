//! Snapshots: the ledger after one height in pieces, for a city that joins or was away for long, and for a restart (P79 to P83).
//!
//! - `format`: the manifest and the chunks; [`Writer`] makes them from a ledger that goes on; [`Loader`] checks them, piece by piece, and
//!   [`Ledger::install`](super::Ledger::install) puts the result in the place of what a ledger held.
//!
//! Rules:
//! - A loader trusts the genesis. Cities and header follow from it by certificates (P75), everything else from the header: the log by the
//!   certified value, remembered ids by their headers in the log, records by the state root.
//! - Writing keeps one published version of the state, and copies none of it. Memory is bounded by a chunk on both sides.
//!
//! What it does not know: files, peers, and which snapshot is worth having.
mod configurations;
mod format;
mod loader;
mod writer;

pub use configurations::{Configurations, MOST_WINDOW};
pub use format::{ChunkKind, Listed, Manifest, Step, CHUNK_BYTES, MAX_CHUNK, MAX_MANIFEST};
pub use loader::{Loader, Ready};
pub use writer::Writer;
