//! One table file.
use crate::error::TableError;
use cityid_core::answer::StateReader;
use cityid_core::error::Error;
use cityid_core::hash::Hash;
use cityid_core::table::check::Check;
use cityid_core::table::index::{Index, Occupied, Reader, Subtree};
use cityid_core::table::{Head, TableProof, MAX_HEAD};
use cityid_core::wire::Decoder;
use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Bytes that are read at once from the start of a file to its end.
const READ: usize = 1 << 20;

/// What a table is checked against (P44).
#[derive(Clone, Copy, Debug)]
pub struct Against<'s, S> {
    /// The state.
    pub state: &'s S,
    /// Its height.
    pub height: u64,
    /// Of the network.
    pub genesis: &'s Hash,
    /// The table of the version before, if the range has one.
    pub previous: Option<&'s TableFile>,
}

/// An open table file. It was whole when it was opened; each later read is checked again.
#[derive(Debug)]
pub struct TableFile {
    file: File,
    path: PathBuf,
    index: Index,
}

impl TableFile {
    /// Reads a file from its first byte to its last.
    ///
    /// Errors: [`Error::Malformed`] when it is no table (P43), [`TableError::Storage`] when it cannot be read.
    pub fn open(path: &Path) -> Result<TableFile, TableError> {
        TableFile::open_occupied(path).map(|(table, _)| table)
    }

    /// The same, with the leaves that it holds.
    pub(crate) fn open_occupied(path: &Path) -> Result<(TableFile, Occupied), TableError> {
        read_whole(path, |_| Ok(()))
    }

    /// Reads a file from its first byte to its last, and checks in the same reading that it may succeed what a state and the file of
    /// the version before hold (P44).
    ///
    /// Errors: as [`TableFile::open`]; `Rule` (`bad_table`) with what is wrong.
    pub fn open_checked(path: &Path, against: Against<'_, impl StateReader + Sync>) -> Result<TableFile, TableError> {
        let Against { state, height, genesis, previous } = against;
        let (head, size_bytes) = read_head(path)?;
        let check = Check::new(head, size_bytes, previous.map(TableFile::index), state, height, genesis)?;
        let (table, _) = read_whole(path, |subtree| {
            let older = match previous {
                Some(previous) => previous.bytes(previous.index.bytes_of_piece(subtree.number))?,
                None => Vec::new(),
            };
            check.subtree(subtree, &older).map_err(|error| match (error, previous) {
                (error @ Error::Malformed(_), Some(previous)) => previous.damaged(&error),
                (error, _) => error.into(),
            })
        })?;
        Ok(table)
    }

    /// A file that was read before, with what was kept of it; only its length is looked at.
    pub(crate) fn with_index(path: &Path, index: Index) -> Result<TableFile, TableError> {
        let file = File::open(path).map_err(|error| TableError::io("opening", path, &error))?;
        let length = file.metadata().map_err(|error| TableError::io("reading the length of", path, &error))?.len();
        if length != index.size_bytes() {
            return Err(TableError::Storage(format!(
                "the table file {} has {length} bytes and had {}; it is damaged, fetch it again",
                path.display(),
                index.size_bytes()
            )));
        }
        Ok(TableFile { file, path: path.to_owned(), index })
    }

    /// What is kept in memory of the file.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// Where it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Proves what the table holds at an index (P41).
    ///
    /// Errors: [`Error::Malformed`] when the index is outside the range, [`TableError::Storage`] when the file is damaged.
    pub fn prove(&self, index: u32) -> Result<TableProof, TableError> {
        self.check_index(index)?;
        let bytes = self.bytes(self.index.bytes_of(index))?;
        self.index.prove(index, &bytes).map_err(|error| self.damaged(&error))
    }

    /// The encoded record at an index.
    ///
    /// Errors: as [`TableFile::prove`].
    pub fn record(&self, index: u32) -> Result<Option<Vec<u8>>, TableError> {
        self.check_index(index)?;
        let bytes = self.bytes(self.index.bytes_of(index))?;
        self.index.record(index, &bytes).map_err(|error| self.damaged(&error))
    }

    /// Checks the table as [`TableFile::open_checked`] does, reading the file again.
    ///
    /// Errors: `Rule` (`bad_table`) with what is wrong, [`TableError::Storage`] when a file is damaged.
    pub fn check(&self, against: Against<'_, impl StateReader + Sync>) -> Result<(), TableError> {
        let is_same = |found: &TableFile| found.index == self.index;
        match TableFile::open_checked(&self.path, against) {
            Ok(found) if is_same(&found) => Ok(()),
            // What is said of other bytes is not said of the table.
            Err(error) if TableFile::open(&self.path).is_ok_and(|found| is_same(&found)) => Err(error),
            Ok(_) => Err(self.damaged(&Error::malformed("it is another table"))),
            Err(error) => Err(self.damaged(&error)),
        }
    }

    fn check_index(&self, index: u32) -> Result<(), Error> {
        self.index.head().serial(index).map(|_| ())
    }

    fn bytes(&self, range: Option<Range<u64>>) -> Result<Vec<u8>, TableError> {
        let Some(range) = range else { return Ok(Vec::new()) };
        let mut bytes = vec![0; (range.end - range.start) as usize];
        self.file.read_exact_at(&mut bytes, range.start).map_err(|error| TableError::io("reading", &self.path, &error))?;
        Ok(bytes)
    }

    /// Reads on from an offset, at most a chunk; empty at the end.
    pub(crate) fn read_at(&self, offset: u64) -> Result<Vec<u8>, TableError> {
        let length = (self.index.size_bytes() - offset.min(self.index.size_bytes())).min(READ as u64);
        self.bytes(Some(offset..offset + length))
    }

    fn damaged(&self, error: &dyn std::fmt::Display) -> TableError {
        TableError::Storage(format!("the table file {} was whole when it was opened, and is not now: {error}", self.path.display()))
    }
}

/// The head of a table file, and its length.
///
/// Errors: as [`TableFile::open`].
pub fn read_head(path: &Path) -> Result<(Head, u64), TableError> {
    let file = File::open(path).map_err(|error| TableError::io("opening", path, &error))?;
    let length = file.metadata().map_err(|error| TableError::io("reading the length of", path, &error))?.len();
    let mut bytes = Vec::new();
    file.take(MAX_HEAD as u64).read_to_end(&mut bytes).map_err(|error| TableError::io("reading", path, &error))?;
    Ok((Head::decode(&mut Decoder::new(&bytes))?, length))
}

fn read_whole(path: &Path, check: impl Fn(&Subtree<'_>) -> Result<(), TableError> + Sync) -> Result<(TableFile, Occupied), TableError> {
    let mut file = File::open(path).map_err(|error| TableError::io("opening", path, &error))?;
    let mut reader = Reader::new();
    let mut chunk = vec![0; READ];
    loop {
        let length = file.read(&mut chunk).map_err(|error| TableError::io("reading", path, &error))?;
        if length == 0 {
            break;
        }
        reader.feed_checked(&chunk[..length], &check)?;
    }
    let (index, occupied) = reader.finish_checked(&check)?;
    Ok((TableFile { file, path: path.to_owned(), index }, occupied))
}
