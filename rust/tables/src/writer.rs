//! Writing a table file with bounded memory.
//!
//! What is gathered beyond a limit (32 MiB) is packed into a segment, an unnamed file beside the table; at the end segments and
//! the previous version are merged. The new file is read by the strict reader while it is written, so that what is written is what
//! everybody else will read. It gets its name when it is whole and on disk.
use crate::error::TableError;
use crate::file::TableFile;
use cityid_core::code::{Model, Serial, Use};
use cityid_core::error::Error;
use cityid_core::record::Status;
use cityid_core::table::build::{Builder, Merger, SourceId, Spec, Step};
use cityid_core::table::index::{Index, Reader};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{sync_channel, SyncSender};
use std::thread;

/// Bytes of new leaves in memory above which they become a segment.
const GATHERED: usize = 32 << 20;
const READ: usize = 1 << 20;
/// Merged pieces, of about 1 MiB, that wait to be read and written.
const MERGED: usize = 4;

/// Makes one table file.
#[derive(Debug)]
pub struct TableWriter {
    path: PathBuf,
    builder: Builder,
    previous: Option<TableFile>,
    segments: Vec<File>,
    memory: usize,
}

/// A file that is removed unless it was given its name.
struct Part {
    path: PathBuf,
    kept: bool,
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.kept {
            // It is unfinished work beside an error that is reported already.
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl TableWriter {
    /// A writer of version 1, or of the version after the file `previous`. Nothing stands at `path` before the end.
    ///
    /// Errors: [`Error::Malformed`] when the previous file is no table, or one of another range or network.
    pub fn new(path: &Path, spec: Spec, previous: Option<&Path>) -> Result<TableWriter, TableError> {
        let (previous, occupied) = previous.map(TableFile::open_occupied).transpose()?.unzip();
        let builder = Builder::new(spec, previous.as_ref().map(TableFile::index).zip(occupied))?;
        Ok(TableWriter { path: path.to_owned(), builder, previous, segments: Vec::new(), memory: GATHERED })
    }

    /// Keeps at most about this many bytes of new leaves in memory.
    pub fn with_memory(self, bytes: usize) -> TableWriter {
        TableWriter { memory: bytes, ..self }
    }

    /// How many segments stand on disk.
    pub fn segments(&self) -> usize {
        self.segments.len()
    }

    /// See [`Builder::add_run`].
    pub fn add_run(&mut self, use_: Use, model: Model, first: Serial, last: Serial, step: u32, status: Status) -> Result<u32, TableError> {
        let count = self.builder.add_run(use_, model, first, last, step, status)?;
        self.spill().map(|()| count)
    }

    /// See [`Builder::add_list`].
    pub fn add_list(&mut self, use_: Use, model: Model, serials: &[u32], status: Status) -> Result<u32, TableError> {
        let count = self.builder.add_list(use_, model, serials, status)?;
        self.spill().map(|()| count)
    }

    /// See [`Builder::set_category`].
    pub fn set_category(&mut self, use_: Use, model: Model) {
        self.builder.set_category(use_, model);
    }

    /// See [`Builder::add_rows`].
    pub fn add_rows(&mut self, text: &[u8], salts: &[u8; 32]) -> Result<Vec<u8>, TableError> {
        let shown = self.builder.add_rows(text, salts)?;
        self.spill().map(|()| shown)
    }

    /// See [`Builder::add_records`].
    pub fn add_records(&mut self, records: &[&[u8]]) -> Result<u32, TableError> {
        let count = self.builder.add_records(records)?;
        self.spill().map(|()| count)
    }

    fn spill(&mut self) -> Result<(), TableError> {
        if self.builder.gathered_bytes() < self.memory {
            return Ok(());
        }
        let path = self.beside("segment");
        let mut file = create(&path)?;
        // Unnamed from here on: it goes with this process, however that ends.
        fs::remove_file(&path).map_err(|error| TableError::io("removing", &path, &error))?;
        file.write_all(&self.builder.take_segment()?).map_err(|error| TableError::io("writing", &path, &error))?;
        self.segments.push(file);
        Ok(())
    }

    fn beside(&self, what: &str) -> PathBuf {
        let mut name = self.path.as_os_str().to_owned();
        name.push(".");
        name.push(what);
        name.into()
    }

    /// Writes the file and opens it.
    ///
    /// Errors: [`Error::Malformed`] when a CSV text was not ended or a record is no later version; [`TableError::Storage`] when the
    /// disk is full or hurt. No file is left then.
    pub fn finish(self) -> Result<TableFile, TableError> {
        let part_path = self.beside("part");
        let mut file = create(&part_path)?;
        let mut part = Part { path: part_path, kept: false };
        let TableWriter { path, builder, previous, segments, .. } = self;
        let index = merge(builder.finish(segments.len())?, previous.as_ref(), &segments, |bytes| {
            file.write_all(bytes).map_err(|error| TableError::io("writing", &part.path, &error))
        })?;
        file.sync_all().map_err(|error| TableError::io("syncing", &part.path, &error))?;
        fs::rename(&part.path, &path).map_err(|error| TableError::io("naming", &path, &error))?;
        part.kept = true;
        sync_folder_of(&path)?;
        TableFile::with_index(&path, index)
    }
}

/// Merges in a thread of its own; here what it gives is read by the strict reader and written.
fn merge(
    merger: Merger,
    previous: Option<&TableFile>,
    segments: &[File],
    mut write: impl FnMut(&[u8]) -> Result<(), TableError>,
) -> Result<Index, TableError> {
    thread::scope(|scope| {
        let (sender, merged) = sync_channel(MERGED);
        let merging = scope.spawn(move || send_merged(merger, previous, segments, &sender));
        let mut reader = Reader::new();
        for bytes in merged {
            reader.feed(&bytes)?;
            write(&bytes)?;
        }
        merging.join().unwrap_or_else(|panic| resume_unwind(panic))?;
        Ok(reader.finish()?.0)
    })
}

fn send_merged(
    mut merger: Merger,
    previous: Option<&TableFile>,
    segments: &[File],
    sender: &SyncSender<Vec<u8>>,
) -> Result<(), TableError> {
    let mut read_previous = previous.map_or(0, |previous| previous.index().body());
    let mut read = vec![0; segments.len()];
    loop {
        match merger.step()? {
            Step::Write(bytes) => {
                if sender.send(bytes).is_err() {
                    return Ok(()); // nobody takes it: the other side failed, and says why
                }
            }
            Step::Need(SourceId::Previous) => {
                let bytes = previous.map_or(Ok(Vec::new()), |previous| previous.read_at(read_previous))?;
                read_previous += bytes.len() as u64;
                merger.feed(SourceId::Previous, &bytes);
            }
            Step::Need(SourceId::Segment(number)) => {
                let file = segments.get(number).ok_or_else(|| Error::malformed("a segment that was not kept"))?;
                let mut bytes = vec![0; READ];
                let length = file
                    .read_at(&mut bytes, read[number])
                    .map_err(|error| TableError::Storage(format!("reading a segment of a table failed: {error}; make the table again")))?;
                read[number] += length as u64;
                merger.feed(SourceId::Segment(number), &bytes[..length]);
            }
            Step::Done => return Ok(()),
        }
    }
}

fn create(path: &Path) -> Result<File, TableError> {
    // A part that a killed process left is begun anew.
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)
        .map_err(|error| TableError::io("creating", path, &error))
}

/// Makes a name in a folder survive a power cut.
pub(crate) fn sync_folder_of(path: &Path) -> Result<(), TableError> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| TableError::io("syncing", folder, &error))
}
