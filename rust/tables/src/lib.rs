//! cityid-tables: sealed tables (P43) on disk.
//!
//! - [`TableFile`]: one file, read as a stream when it is opened, and piece by piece for proofs.
//! - [`TableWriter`]: makes such a file with bounded memory.
//! - [`Tables`]: a folder of files by digest, with what is kept in memory of each in a small file beside it.
//!
//! Everything that a table means is in cityid-core, which sees slices; here are the files. A file that is missing or damaged is not
//! there: nobody is told from it that an item is absent.
#![forbid(unsafe_code)]
mod error;
mod file;
mod folder;
mod writer;

pub use error::TableError;
pub use file::{read_head, Against, TableFile};
pub use folder::Tables;
pub use writer::TableWriter;
