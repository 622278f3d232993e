//! What can go wrong: a table, or the disk under it.
use cityid_core::error::Error;
use std::fmt;
use std::path::Path;

/// An error of the core, or of the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TableError {
    /// What somebody gave is wrong.
    Core(Error),
    /// This machine is hurt: a file that was good cannot be read, or gives other bytes.
    Storage(String),
}

impl TableError {
    /// An error of the operating system, with what was tried on which file.
    pub(crate) fn io(what: &str, path: &Path, error: &std::io::Error) -> TableError {
        TableError::Storage(format!("{what} {} failed: {error}; free the disk or mend the path, and try again", path.display()))
    }
}

impl From<Error> for TableError {
    fn from(error: Error) -> TableError {
        TableError::Core(error)
    }
}

impl fmt::Display for TableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TableError::Core(error) => error.fmt(f),
            TableError::Storage(message) => f.write_str(message),
        }
    }
}

impl std::error::Error for TableError {}
