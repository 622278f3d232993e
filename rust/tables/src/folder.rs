//! A folder of table files by digest.
//!
//! ```text
//! DIGEST.table    the file (P43)
//! DIGEST.index    what is kept in memory of it, so that a start reads 80 kB a table and not 100 MB
//! ```
//! A table without a good index is read whole once and gets one. A table that is damaged, at the start or when it is read later, is
//! left out and named: for answers it is not there.
use crate::error::TableError;
use crate::file::{Against, TableFile};
use crate::writer::sync_folder_of;
use cityid_core::answer::StateReader;
use cityid_core::error::Error;
use cityid_core::hash::{hex, Hash};
use cityid_core::record::Table;
use cityid_core::table::index::Index;
use cityid_core::table::TableProof;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

/// No index file is longer: 977 subtrees, 4,096 templates.
const MAX_INDEX: u64 = 1 << 20;

/// See the head of the file.
#[derive(Debug)]
pub struct Tables {
    folder: PathBuf,
    held: RwLock<Held>,
}

#[derive(Debug, Default)]
struct Held {
    tables: BTreeMap<Hash, Arc<TableFile>>,
    damaged: BTreeMap<PathBuf, String>,
}

impl Tables {
    /// Opens the tables of a folder.
    ///
    /// Errors: [`TableError::Storage`] when the folder cannot be read. A damaged table is no error: see [`Tables::damaged`].
    pub fn open(folder: &Path) -> Result<Tables, TableError> {
        let tables = Tables { folder: folder.to_owned(), held: RwLock::default() };
        let entries = fs::read_dir(folder).map_err(|error| TableError::io("reading", folder, &error))?;
        for entry in entries {
            let path = entry.map_err(|error| TableError::io("reading", folder, &error))?.path();
            if path.extension().is_none_or(|ending| ending != "table") {
                continue;
            }
            match open_kept(&path) {
                Ok(table) => drop(tables.held().tables.insert(table.index().digest(), Arc::new(table))),
                Err(error) => drop(tables.held().damaged.insert(path, error.to_string())),
            }
        }
        Ok(tables)
    }

    fn held(&self) -> std::sync::RwLockWriteGuard<'_, Held> {
        self.held.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads a file whole, and moves it into the folder under its digest. It must lie on the same file system.
    ///
    /// Errors: [`Error::Malformed`] when it is no table, [`TableError::Storage`] when it cannot be read or moved.
    pub fn add(&self, path: &Path) -> Result<Arc<TableFile>, TableError> {
        self.move_in(TableFile::open(path)?)
    }

    /// The same, and checks the table in the same reading (P44). One that is refused stays where it is.
    ///
    /// Errors: as [`Tables::add`] and [`TableFile::open_checked`].
    pub fn add_checked(&self, path: &Path, against: Against<'_, impl StateReader + Sync>) -> Result<Arc<TableFile>, TableError> {
        self.move_in(TableFile::open_checked(path, against)?)
    }

    fn move_in(&self, table: TableFile) -> Result<Arc<TableFile>, TableError> {
        let (path, digest) = (table.path(), table.index().digest());
        if let Some(known) = self.get(&digest) {
            if path != known.path() {
                fs::remove_file(path).map_err(|error| TableError::io("removing", path, &error))?;
            }
            return Ok(known);
        }
        let kept = self.path_of(&digest);
        File::open(path).and_then(|file| file.sync_all()).map_err(|error| TableError::io("syncing", path, &error))?;
        fs::rename(path, &kept).map_err(|error| TableError::io("moving a table to", &kept, &error))?;
        write_index(&kept, table.index())?;
        sync_folder_of(&kept)?;
        let table = Arc::new(TableFile::with_index(&kept, table.index().clone())?);
        let mut held = self.held();
        held.damaged.remove(&kept);
        held.tables.insert(digest, table.clone());
        Ok(table)
    }

    /// Takes a table out of the folder, damaged or not, and removes its files. Who proves from it meanwhile still can.
    ///
    /// Errors: [`TableError::Storage`] when the files cannot be removed; the table is left out all the same.
    pub fn remove(&self, digest: &Hash) -> Result<(), TableError> {
        let path = self.path_of(digest);
        {
            let mut held = self.held();
            held.tables.remove(digest);
            held.damaged.remove(&path);
        }
        for file in [path.with_extension("index"), path] {
            match fs::remove_file(&file) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(TableError::io("removing", &file, &error)),
                _ => {}
            }
        }
        Ok(())
    }

    fn path_of(&self, digest: &Hash) -> PathBuf {
        self.folder.join(format!("{}.table", hex(digest)))
    }

    /// The table with this digest.
    pub fn get(&self, digest: &Hash) -> Option<Arc<TableFile>> {
        self.held.read().unwrap_or_else(PoisonError::into_inner).tables.get(digest).cloned()
    }

    /// What is there, ascending.
    pub fn digests(&self) -> Vec<Hash> {
        self.held.read().unwrap_or_else(PoisonError::into_inner).tables.keys().copied().collect()
    }

    /// The files that are damaged, and what is wrong with each.
    pub fn damaged(&self) -> Vec<(PathBuf, String)> {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        held.damaged.iter().map(|(path, fault)| (path.clone(), fault.clone())).collect()
    }

    /// What a sealed table holds at an index, for [`cityid_core::answer::TableLookup`]; none when it is not there. A table that is found
    /// damaged is left out from then on.
    pub fn lookup(&self, table: &Table, index: u32) -> Option<TableProof> {
        let file = self.get(&table.digest)?;
        match file.prove(index) {
            Ok(proof) => Some(proof),
            Err(TableError::Core(_)) => None,
            Err(TableError::Storage(fault)) => {
                let mut held = self.held();
                held.tables.remove(&table.digest);
                held.damaged.insert(file.path().to_owned(), fault);
                None
            }
        }
    }
}

/// Opens a table of a folder by its index, or whole when that is missing or damaged.
fn open_kept(path: &Path) -> Result<TableFile, TableError> {
    let table = match read_index(path) {
        Some(index) => TableFile::with_index(path, index)?,
        None => {
            let table = TableFile::open(path)?;
            write_index(path, table.index())?;
            table
        }
    };
    let digest = hex(&table.index().digest());
    if path.file_stem().is_none_or(|name| *name != *digest) {
        return Err(Error::malformed(format!("its digest is {digest}, and its name says another; it is damaged or misnamed")).into());
    }
    Ok(table)
}

fn read_index(table: &Path) -> Option<Index> {
    let path = table.with_extension("index");
    if fs::metadata(&path).ok()?.len() > MAX_INDEX {
        return None;
    }
    Index::decode(&fs::read(&path).ok()?).ok()
}

fn write_index(table: &Path, index: &Index) -> Result<(), TableError> {
    let (path, part) = (table.with_extension("index"), table.with_extension("index.part"));
    let write = || -> std::io::Result<()> {
        let mut file = File::create(&part)?;
        file.write_all(&index.encode())?;
        file.sync_all()?;
        fs::rename(&part, &path)
    };
    write().map_err(|error| TableError::io("writing", &path, &error))
}
