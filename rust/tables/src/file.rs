//! One table file.
use crate::error::TableError;
use cityid_core::answer::StateReader;
use cityid_core::error::Error;
use cityid_core::hash::Hash;
use cityid_core::table::check::{Check, PieceBytes};
use cityid_core::table::index::{Index, Occupied, Reader};
use cityid_core::table::TableProof;
use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Bytes that are read at once from the start of a file to its end.
const READ: usize = 1 << 20;
/// Subtrees that are checked at once: at most 16 of 17 MB each, in practice 2 MB.
const CHECKED: u32 = 16;

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
        let mut file = File::open(path).map_err(|error| TableError::io("opening", path, &error))?;
        let mut reader = Reader::new();
        let mut chunk = vec![0; READ];
        loop {
            let length = file.read(&mut chunk).map_err(|error| TableError::io("reading", path, &error))?;
            if length == 0 {
                break;
            }
            reader.feed(&chunk[..length])?;
        }
        let (index, occupied) = reader.finish()?;
        Ok((TableFile { file, path: path.to_owned(), index }, occupied))
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

    /// Checks that the table may succeed what a state and the file of the version before hold (P44).
    ///
    /// `height` is that of the state, `genesis` the network's.
    ///
    /// Errors: `Rule` (`bad_table`) with what is wrong, [`TableError::Storage`] when a file is damaged.
    pub fn check(
        &self,
        previous: Option<&TableFile>,
        state: &(impl StateReader + Sync),
        height: u64,
        genesis: &Hash,
    ) -> Result<(), TableError> {
        let check = Check::new(&self.index, previous.map(TableFile::index), state, height, genesis)?;
        for from in (0..self.index.pieces()).step_by(CHECKED as usize) {
            let mut pieces = Vec::with_capacity(CHECKED as usize);
            for number in from..(from + CHECKED).min(self.index.pieces()) {
                let older = match previous {
                    Some(previous) => previous.bytes(previous.index.bytes_of_piece(number))?,
                    None => Vec::new(),
                };
                pieces.push(PieceBytes { number, table: self.bytes(self.index.bytes_of_piece(number))?, previous: older });
            }
            check.pieces(pieces).map_err(|error| match error {
                Error::Malformed(_) => self.damaged(&error),
                other => other.into(),
            })?;
        }
        Ok(())
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

    fn damaged(&self, error: &Error) -> TableError {
        TableError::Storage(format!("the table file {} was whole when it was opened, and is not now: {error}", self.path.display()))
    }
}
