//! Sealed tables as files. Everything that reads, writes or hashes a file releases the interpreter.
use crate::bytes::Bytes;
use crate::error::{to_py, MalformedInput, StorageError};
use crate::ledger::Snapshot;
use crate::random_seed;
use cityid_core::code::{City, Class, Model, Org, Serial, Use};
use cityid_core::error::Error;
use cityid_core::hash::Hash;
use cityid_core::index::Snapshot as StateSnapshot;
use cityid_core::ledger::operation::{NewTable, Range};
use cityid_core::record::Status;
use cityid_core::table::build::Spec;
use cityid_core::table::{self, Head, TableProof};
use cityid_core::wire::Encoder;
use cityid_tables::{Against, TableError, TableFile};
use pyo3::buffer::PyBuffer;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

fn table_to_py(error: TableError) -> PyErr {
    match error {
        TableError::Core(error) => to_py(error),
        TableError::Storage(message) => StorageError::new_err(message),
    }
}

fn status(name: &str) -> PyResult<Status> {
    match name {
        "active" => Ok(Status::Active),
        "allocated" => Ok(Status::Allocated),
        other => Err(MalformedInput::new_err(format!("the status {other:?}; an item begins as active or allocated"))),
    }
}

fn range(city: &str, class: &str, base: u32, size: u64) -> PyResult<Range> {
    let range = || Range::new(City::parse(city)?, Class::parse(class)?, Serial::new(base)?, size);
    range().map_err(to_py)
}

fn against<'a>(snapshot: &'a Snapshot, previous: Option<&'a Table>) -> Against<'a, StateSnapshot> {
    let (published, beside) = (&*snapshot.0, &snapshot.1);
    Against { state: &published.state, height: published.height, genesis: &beside.genesis, previous: previous.map(|table| &*table.0) }
}

/// The head of a table file.
#[pyclass(frozen, module = "cityid._native")]
pub struct TableHead(Head);

#[pymethods]
impl TableHead {
    /// Reads only the head.
    #[staticmethod]
    fn read(py: Python<'_>, path: PathBuf) -> PyResult<TableHead> {
        py.detach(|| cityid_tables::read_head(&path)).map(|(head, _)| TableHead(head)).map_err(table_to_py)
    }

    #[getter]
    fn city(&self) -> &str {
        self.0.range.city.as_str()
    }

    #[getter]
    fn cls(&self) -> &str {
        self.0.range.class.as_str()
    }

    #[getter]
    fn base(&self) -> u32 {
        self.0.range.base.get()
    }

    #[getter]
    fn size(&self) -> u64 {
        self.0.range.size
    }

    #[getter]
    fn previous<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        self.0.previous.as_ref().map(|digest| PyBytes::new(py, digest))
    }
}

/// One table file, open.
#[pyclass(frozen, module = "cityid._native")]
pub struct Table(pub Arc<TableFile>);

impl Table {
    fn index(&self, serial: u32) -> PyResult<u32> {
        Serial::new(serial).and_then(|serial| self.0.index().head().index(serial)).map_err(to_py)
    }
}

#[pymethods]
impl Table {
    /// Reads the whole file once.
    #[staticmethod]
    fn open(py: Python<'_>, path: PathBuf) -> PyResult<Table> {
        py.detach(|| TableFile::open(&path)).map(|table| Table(Arc::new(table))).map_err(table_to_py)
    }

    #[getter]
    fn digest<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.index().digest())
    }

    #[getter]
    fn root<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.index().root())
    }

    #[getter]
    fn depth(&self) -> u8 {
        self.0.index().head().depth()
    }

    #[getter]
    fn version(&self) -> u64 {
        self.0.index().head().version
    }

    #[getter]
    fn count(&self) -> u32 {
        self.0.index().head().count
    }

    #[getter]
    fn city(&self) -> &str {
        self.0.index().head().range.city.as_str()
    }

    #[getter]
    fn cls(&self) -> &str {
        self.0.index().head().range.class.as_str()
    }

    #[getter]
    fn base(&self) -> u32 {
        self.0.index().head().range.base.get()
    }

    #[getter]
    fn size(&self) -> u64 {
        self.0.index().head().range.size
    }

    #[getter]
    fn previous<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        self.0.index().head().previous.as_ref().map(|digest| PyBytes::new(py, digest))
    }

    #[getter]
    fn size_bytes(&self) -> u64 {
        self.0.index().size_bytes()
    }

    #[getter]
    fn path(&self) -> PathBuf {
        self.0.path().to_owned()
    }

    /// CBOR of the table proof of a serial, present or absent.
    fn prove<'py>(&self, py: Python<'py>, serial: u32) -> PyResult<Bound<'py, PyBytes>> {
        let index = self.index(serial)?;
        let proof: TableProof = py.detach(|| self.0.prove(index)).map_err(table_to_py)?;
        let mut out = Encoder::new();
        proof.encode(&mut out);
        Ok(PyBytes::new(py, &out.finish()))
    }

    /// The encoded record of a serial.
    fn record<'py>(&self, py: Python<'py>, serial: u32) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let index = self.index(serial)?;
        let record = py.detach(|| self.0.record(index)).map_err(table_to_py)?;
        Ok(record.map(|record| PyBytes::new(py, &record)))
    }

    /// P44 against a state and the table before.
    #[pyo3(signature = (snapshot, previous))]
    fn check(&self, py: Python<'_>, snapshot: &Snapshot, previous: Option<&Table>) -> PyResult<()> {
        let against = against(snapshot, previous);
        py.detach(|| self.0.check(against)).map_err(table_to_py)
    }

    /// What a storage receipt of this table signs.
    fn statement<'py>(&self, py: Python<'py>, expected_version: u64) -> Bound<'py, PyBytes> {
        let index = self.0.index();
        let head = index.head();
        PyBytes::new(py, &table::storage_receipt_message(&head.genesis, &head.range, expected_version, &index.sealed()))
    }
}

/// Builds a table file.
#[pyclass(frozen, module = "cityid._native")]
pub struct TableWriter {
    /// Taken by `finish`.
    inner: Mutex<Option<cityid_tables::TableWriter>>,
}

impl TableWriter {
    fn with<T: Send>(
        &self,
        py: Python<'_>,
        call: impl FnOnce(&mut cityid_tables::TableWriter) -> Result<T, TableError> + Send,
    ) -> PyResult<T> {
        py.detach(|| {
            let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
            call(inner.as_mut().ok_or_else(finished)?)
        })
        .map_err(table_to_py)
    }
}

fn finished() -> TableError {
    Error::malformed("this table was finished before; make another writer").into()
}

fn category(use_: &str, model: &str) -> PyResult<(Use, Model)> {
    Use::parse(use_).and_then(|use_| Ok((use_, Model::parse(model)?))).map_err(to_py)
}

fn serials(serials: &Bound<'_, PyAny>) -> PyResult<Vec<u32>> {
    // An empty array may have a buffer at no address, which is no buffer of integers.
    if serials.len()? == 0 {
        return Ok(Vec::new());
    }
    if let Ok(buffer) = PyBuffer::<u32>::get(serials) {
        return buffer.to_vec(serials.py());
    }
    let bytes: Bytes = serials.extract()?;
    if !bytes.len().is_multiple_of(4) {
        return Err(MalformedInput::new_err(format!("{} bytes of serials, which are 32-bit integers", bytes.len())));
    }
    Ok(bytes.chunks_exact(4).map(|four| u32::from_ne_bytes([four[0], four[1], four[2], four[3]])).collect())
}

#[pymethods]
impl TableWriter {
    #[new]
    #[pyo3(signature = (path, *, genesis_hash, city, cls, base, size, org, seed, height, previous=None))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        py: Python<'_>,
        path: PathBuf,
        genesis_hash: Bytes,
        city: &str,
        cls: &str,
        base: u32,
        size: u64,
        org: Option<&str>,
        seed: Bytes,
        height: u64,
        previous: Option<PathBuf>,
    ) -> PyResult<TableWriter> {
        let spec = Spec {
            genesis: genesis_hash.fixed("a genesis hash")?,
            range: range(city, cls, base, size)?,
            org: org.map(Org::parse).transpose().map_err(to_py)?,
            seed: seed.fixed("a seed")?,
            height,
        };
        let writer = py.detach(|| cityid_tables::TableWriter::new(&path, spec, previous.as_deref())).map_err(table_to_py)?;
        Ok(TableWriter { inner: Mutex::new(Some(writer)) })
    }

    /// Serials from first to last; how many.
    #[pyo3(signature = (use_, model, first, last, *, step=1, status="active"))]
    #[allow(clippy::too_many_arguments)]
    fn add_run(&self, py: Python<'_>, use_: &str, model: &str, first: u32, last: u32, step: u32, status: &str) -> PyResult<u32> {
        let (use_, model) = category(use_, model)?;
        let status = self::status(status)?;
        let (first, last) = (Serial::new(first).map_err(to_py)?, Serial::new(last).map_err(to_py)?);
        self.with(py, |writer| writer.add_run(use_, model, first, last, step, status))
    }

    /// Serials that ascend; how many.
    #[pyo3(signature = (use_, model, serials, *, status="active"))]
    fn add_list(&self, py: Python<'_>, use_: &str, model: &str, serials: &Bound<'_, PyAny>, status: &str) -> PyResult<u32> {
        let (use_, model) = category(use_, model)?;
        let (serials, status) = (self::serials(serials)?, self::status(status)?);
        self.with(py, |writer| writer.add_list(use_, model, &serials, status))
    }

    /// A piece of CSV text; the rows that open its commitments.
    #[pyo3(signature = (data, *, salts=None, category=None))]
    fn add_csv<'py>(
        &self,
        py: Python<'py>,
        data: Bytes,
        salts: Option<Bytes>,
        category: Option<(String, String)>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let salts: [u8; 32] = match salts {
            Some(salts) => salts.fixed("salts")?,
            None => random_seed()?,
        };
        let category = category.map(|(use_, model)| self::category(&use_, &model)).transpose()?;
        let shown = self.with(py, |writer| {
            if let Some((use_, model)) = category {
                writer.set_category(use_, model);
            }
            writer.add_rows(&data, &salts)
        })?;
        Ok(PyBytes::new(py, &shown))
    }

    /// Encoded records of items; how many.
    fn add_records(&self, py: Python<'_>, records: Vec<Bytes>) -> PyResult<u32> {
        let records: Vec<&[u8]> = records.iter().map(|record| &record[..]).collect();
        self.with(py, |writer| writer.add_records(&records))
    }

    /// Writes the file and opens it.
    fn finish(&self, py: Python<'_>) -> PyResult<Table> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner).take();
        let writer = inner.ok_or_else(|| table_to_py(finished()))?;
        py.detach(|| writer.finish()).map(|table| Table(Arc::new(table))).map_err(table_to_py)
    }
}

/// A folder of table files by digest.
#[pyclass(frozen, module = "cityid._native")]
pub struct Tables(pub Arc<cityid_tables::Tables>);

#[pymethods]
impl Tables {
    #[new]
    fn new(py: Python<'_>, directory: PathBuf) -> PyResult<Tables> {
        py.detach(|| cityid_tables::Tables::open(&directory)).map(|tables| Tables(Arc::new(tables))).map_err(table_to_py)
    }

    /// Checks a file and moves it into the folder.
    #[pyo3(signature = (path, *, snapshot=None, previous=None))]
    fn add(&self, py: Python<'_>, path: PathBuf, snapshot: Option<&Snapshot>, previous: Option<&Table>) -> PyResult<Table> {
        let against = snapshot.map(|snapshot| against(snapshot, previous));
        py.detach(|| match against {
            Some(against) => self.0.add_checked(&path, against),
            None => self.0.add(&path),
        })
        .map(Table)
        .map_err(table_to_py)
    }

    /// Takes a table out of the folder, and its files off the disk.
    fn remove(&self, py: Python<'_>, digest: Bytes) -> PyResult<()> {
        let digest = digest.fixed("a digest")?;
        py.detach(|| self.0.remove(&digest)).map_err(table_to_py)
    }

    fn get(&self, digest: Bytes) -> PyResult<Option<Table>> {
        Ok(self.0.get(&digest.fixed("a digest")?).map(Table))
    }

    fn digests<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        PyList::new(py, self.0.digests().iter().map(|digest| PyBytes::new(py, digest)))
    }

    fn damaged(&self) -> Vec<String> {
        self.0.damaged().into_iter().map(|(path, fault)| format!("{}: {fault}", path.display())).collect()
    }
}

/// What a city's checkpoint key signs to say that it checked a table and keeps it (P45).
#[pyfunction]
#[allow(clippy::too_many_arguments)]
pub fn storage_receipt_message<'py>(
    py: Python<'py>,
    genesis_hash: Bytes,
    city: &str,
    cls: &str,
    base: u32,
    size: u64,
    expected_version: u64,
    root: Bytes,
    digest: Bytes,
    count: u64,
) -> PyResult<Bound<'py, PyBytes>> {
    let genesis: Hash = genesis_hash.fixed("a genesis hash")?;
    let sealed = NewTable { root: root.fixed("a root")?, digest: digest.fixed("a digest")?, count };
    Ok(PyBytes::new(py, &table::storage_receipt_message(&genesis, &range(city, cls, base, size)?, expected_version, &sealed)))
}
