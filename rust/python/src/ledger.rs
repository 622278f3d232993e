//! The ledger. Every call that verifies, executes, commits or proves releases the interpreter.
use crate::answer::{Answer, Genesis};
use crate::bytes::{digests, Bytes, Text};
use crate::error::{to_py, RuleViolation};
use crate::history::{check_keys, AuditPage};
use crate::random_seed;
use crate::snapshots::{SnapshotLoader, SnapshotWriter};
use crate::tables::Tables;
use cityid_core::audit::Page;
use cityid_core::block::ValidatorSet;
use cityid_core::code::{City, Class, Serial, Subject};
use cityid_core::error::Error;
use cityid_core::genesis::Parameters;
use cityid_core::hash::Hash;
use cityid_core::ledger::operation::Range;
use cityid_core::ledger::rules::Member;
use cityid_core::ledger::stored::Receipt;
use cityid_core::ledger::{self, published_answer_with_tables, Published};
use cityid_core::listing::{cursor, item_place, parse_cursor, Prefix, Request};
use cityid_core::map_key::{path_of, MapKey};
use cityid_core::record::{record_hash, Purpose, Record, Table};
use cityid_core::table::TableProof;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// An executed block that is neither committed nor dropped.
#[pyclass(frozen, module = "cityid._native")]
pub struct Candidate {
    header: Vec<u8>,
    value: Hash,
    state_root: Hash,
    #[pyo3(get)]
    height: u64,
    #[pyo3(get)]
    transactions: usize,
    /// Taken by commit.
    inner: Mutex<Option<ledger::Candidate>>,
}

impl Candidate {
    fn new(inner: ledger::Candidate) -> Candidate {
        Candidate {
            header: inner.header_bytes.clone(),
            value: inner.value,
            state_root: inner.header.state_root,
            height: inner.header.height,
            transactions: inner.transactions(),
            inner: Mutex::new(Some(inner)),
        }
    }
}

#[pymethods]
impl Candidate {
    #[getter]
    fn header<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.header)
    }

    #[getter]
    fn value<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.value)
    }

    #[getter]
    fn state_root<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.state_root)
    }
}

/// What one committed height leaves for the store, each as one buffer.
#[pyclass(frozen, module = "cityid._native")]
pub struct Commit(ledger::Commit);

#[pymethods]
impl Commit {
    #[getter]
    fn height(&self) -> u64 {
        self.0.height
    }

    #[getter]
    fn changes<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.changes)
    }

    #[getter]
    fn receipts<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.receipts)
    }

    #[getter]
    fn transactions(&self) -> usize {
        self.0.transactions
    }

    #[getter]
    fn committed(&self) -> usize {
        self.0.committed
    }

    #[getter]
    fn rejected(&self) -> usize {
        self.0.rejected
    }

    #[getter]
    fn tables<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        bytes_list(py, &self.0.tables)
    }

    #[getter]
    fn configuration(&self) -> bool {
        self.0.configuration
    }
}

/// The ledger of one network, and the sealed tables that its answers may use.
#[pyclass(frozen, module = "cityid")]
pub struct Ledger(pub ledger::Ledger, RwLock<Option<Arc<cityid_tables::Tables>>>);

fn reason(error: &Error) -> (String, String) {
    match error {
        Error::Rule { reason, message } => ((*reason).to_owned(), message.clone()),
        other => ("malformed".to_owned(), other.to_string()),
    }
}

fn bytes_list<'py>(py: Python<'py>, items: &[Hash]) -> PyResult<Bound<'py, PyList>> {
    PyList::new(py, items.iter().map(|item| PyBytes::new(py, item)))
}

fn joined<'py>(py: Python<'py>, items: &[Hash]) -> Bound<'py, PyBytes> {
    PyBytes::new(py, &items.concat())
}

/// (city, consensus key) of a set, in its order.
pub fn set_rows<'py>(py: Python<'py>, set: &ValidatorSet) -> Vec<(String, Bound<'py, PyBytes>)> {
    set.members().iter().map(|member| (member.city.as_str().to_owned(), PyBytes::new(py, &member.key))).collect()
}

/// Parameters by name.
pub fn parameter_dict<'py>(py: Python<'py>, parameters: &Parameters) -> PyResult<Bound<'py, PyDict>> {
    let named = PyDict::new(py);
    for ((name, ..), value) in Parameters::NAMES.iter().zip(parameters.values()) {
        named.set_item(name, value)?;
    }
    Ok(named)
}

fn member_dict<'py>(py: Python<'py>, member: &Member) -> PyResult<Bound<'py, PyDict>> {
    let record = &member.record;
    let city = |city: &Option<City>| city.as_ref().map(|city| city.as_str().to_owned());
    let entry = PyDict::new(py);
    entry.set_item("city", member.city.as_str())?;
    entry.set_item("name", record.name.as_deref())?;
    entry.set_item("status", record.status.name())?;
    entry.set_item("committee", member.committee)?;
    for purpose in [Purpose::Consensus, Purpose::Checkpoint, Purpose::Tls] {
        entry.set_item(purpose.name(), member.key(purpose).map(|key| PyBytes::new(py, &key)))?;
    }
    let transaction = record.keys.iter().filter(|entry| entry.purpose == Purpose::Transaction);
    entry.set_item("transaction", transaction.map(|entry| PyBytes::new(py, &entry.key)).collect::<Vec<_>>())?;
    entry.set_item("certificate", record.certificate.as_ref().map(|certificate| PyBytes::new(py, certificate)))?;
    entry.set_item("services", &record.services)?;
    entry.set_item("administered_by", city(&record.administered_by))?;
    entry.set_item("successor", city(&record.succession.as_ref().and_then(|succession| succession.successor)))?;
    Ok(entry)
}

/// (city, consensus key) of a set in its canonical bytes.
#[pyfunction]
pub fn validator_set<'py>(py: Python<'py>, data: Bytes) -> PyResult<Vec<(String, Bound<'py, PyBytes>)>> {
    Ok(set_rows(py, &ValidatorSet::decode(&data).map_err(to_py)?))
}

#[pymethods]
impl Ledger {
    #[new]
    fn new(genesis: &Genesis) -> PyResult<Ledger> {
        ledger::Ledger::new(genesis.0.clone(), random_seed()?).map(|ledger| Ledger(ledger, RwLock::default())).map_err(to_py)
    }

    #[getter]
    fn height(&self) -> u64 {
        self.0.published().height
    }

    #[getter]
    fn time_ms(&self) -> u64 {
        self.0.published().time_ms
    }

    #[getter]
    fn header<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.tip().1)
    }

    #[getter]
    fn state_root<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.published().state.root())
    }

    #[getter]
    fn log_root<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, &self.0.log_root().map_err(to_py)?))
    }

    #[getter]
    fn records(&self) -> u64 {
        self.0.published().state.len()
    }

    // ---------------------------------------------------------------- governance

    /// (city, consensus key) of who decides the next height, ascending.
    #[getter]
    fn validators<'py>(&self, py: Python<'py>) -> Vec<(String, Bound<'py, PyBytes>)> {
        set_rows(py, &self.0.validators())
    }

    /// Limits and intervals of the committed state, by name (P6).
    fn parameters<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        parameter_dict(py, &self.0.parameters())
    }

    /// Every member city, ascending, retired ones too.
    fn cities<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyDict>>> {
        let members = py.detach(|| self.0.cities()).map_err(to_py)?;
        members.iter().map(|member| member_dict(py, member)).collect()
    }

    #[getter]
    fn protocol(&self) -> u64 {
        self.0.protocol()
    }

    /// (version, height) of the protocol versions, ascending.
    fn protocols(&self) -> Vec<(u64, u64)> {
        self.0.rules().configuration.protocol.clone()
    }

    /// (height, canonical bytes of the next set) of headers above a height that name another next set.
    #[pyo3(signature = (from_height=0))]
    fn set_changes<'py>(&self, py: Python<'py>, from_height: u64) -> Vec<(u64, Bound<'py, PyBytes>)> {
        let changes = self.0.set_changes(from_height);
        changes.iter().map(|(height, set)| (*height, PyBytes::new(py, &set.encode()))).collect()
    }

    fn validators_at<'py>(&self, py: Python<'py>, height: u64) -> PyResult<Vec<(String, Bound<'py, PyBytes>)>> {
        Ok(set_rows(py, &*self.0.validators_at(height).map_err(to_py)?))
    }

    // ---------------------------------------------------------------- transactions in

    /// Takes in a CBOR sequence of transactions: (id, reason or None, message or None) each.
    fn admit<'py>(&self, py: Python<'py>, transactions: Bytes) -> PyResult<Bound<'py, PyList>> {
        let admissions = py.detach(|| self.0.admit(&transactions)).map_err(to_py)?;
        let rows = PyList::empty(py);
        for admission in admissions {
            let refusal = admission.refused.as_ref().map(reason);
            let (reason, message) = refusal.unzip();
            rows.append((PyBytes::new(py, &admission.id), reason, message))?;
        }
        Ok(rows)
    }

    fn waiting(&self) -> (usize, usize) {
        self.0.waiting()
    }

    /// (digest, batch body) of the oldest waiting transactions, or None; the batch is in the pool then.
    fn seal<'py>(&self, py: Python<'py>, max_transactions: usize, max_bytes: usize) -> Option<(Bound<'py, PyBytes>, Bound<'py, PyBytes>)> {
        let batch = py.detach(|| self.0.seal(max_transactions, max_bytes))?;
        Some((PyBytes::new(py, &batch.digest), PyBytes::new(py, &batch.body)))
    }

    /// Batches from peers: (digest, transactions, error or None) each.
    fn ingest<'py>(&self, py: Python<'py>, batches: Vec<Bytes>) -> PyResult<Bound<'py, PyList>> {
        let results = py.detach(|| {
            let bodies: Vec<&[u8]> = batches.iter().map(|batch| &batch[..]).collect();
            self.0.ingest(&bodies)
        });
        let rows = PyList::empty(py);
        for (digest, outcome) in results {
            let (count, error) = match outcome {
                Ok(count) => (count, None),
                Err(error) => (0, Some(error.to_string())),
            };
            rows.append((PyBytes::new(py, &digest), count, error))?;
        }
        Ok(rows)
    }

    fn missing<'py>(&self, py: Python<'py>, digests: Bytes) -> PyResult<Bound<'py, PyList>> {
        bytes_list(py, &self.0.missing(&self::digests(&digests)?))
    }

    fn batch<'py>(&self, py: Python<'py>, digest: Bytes) -> PyResult<Option<Bound<'py, PyBytes>>> {
        Ok(self.0.batch(&digest.fixed("a digest")?).map(|batch| PyBytes::new(py, &batch.body)))
    }

    fn includable(&self, digest: Bytes, height: u64) -> PyResult<bool> {
        Ok(self.0.is_includable(&digest.fixed("a digest")?, height))
    }

    fn within_items(&self, digests: Bytes, items: u64) -> PyResult<usize> {
        Ok(self.0.within_items(&self::digests(&digests)?, items))
    }

    fn expired(&self, digest: Bytes, height: u64) -> PyResult<bool> {
        Ok(self.0.is_expired(&digest.fixed("a digest")?, height))
    }

    fn forget(&self, digests: Bytes) -> PyResult<()> {
        self.0.forget(&self::digests(&digests)?);
        Ok(())
    }

    fn reclaim(&self, py: Python<'_>, digest: Bytes) -> PyResult<usize> {
        let digest = digest.fixed("a digest")?;
        Ok(py.detach(|| self.0.reclaim(&digest)))
    }

    fn pool_size(&self) -> (usize, usize) {
        self.0.pool_size()
    }

    // ---------------------------------------------------------------- blocks

    fn execute(&self, py: Python<'_>, height: u64, time_ms: u64, proposer: &str, digests: Bytes) -> PyResult<Candidate> {
        let proposer = City::parse(proposer).map_err(to_py)?;
        let digests = self::digests(&digests)?;
        py.detach(|| self.0.execute(height, time_ms, proposer, &digests)).map(Candidate::new).map_err(to_py)
    }

    /// Executes what a header claims and compares every field; RuleViolation (`invalid_block`) says which differs.
    fn validate(&self, py: Python<'_>, header: Bytes, digests: Bytes) -> PyResult<Candidate> {
        let digests = self::digests(&digests)?;
        py.detach(|| self.0.validate(&header, &digests)).map(Candidate::new).map_err(to_py)
    }

    fn commit(&self, py: Python<'_>, candidate: &Candidate, certificate: Bytes) -> PyResult<Commit> {
        let taken = candidate.inner.lock().unwrap_or_else(PoisonError::into_inner).take();
        let inner = taken.ok_or_else(|| {
            RuleViolation::new_err(("stale_base", "this candidate was given to commit before, which took it; execute the block again"))
        })?;
        py.detach(|| self.0.commit(inner, &certificate)).map(Commit).map_err(to_py)
    }

    /// Restart: consecutive heights from the store; the last header's state root is compared with what the records give.
    fn replay(&self, py: Python<'_>, headers: Vec<Bytes>, changes: Vec<Bytes>, receipts: Vec<Bytes>, certificate: Bytes) -> PyResult<()> {
        fn slices(items: &[Bytes]) -> Vec<&[u8]> {
            items.iter().map(|item| &item[..]).collect()
        }
        py.detach(|| self.0.replay(&slices(&headers), &slices(&changes), &slices(&receipts), &certificate)).map_err(to_py)
    }

    // ---------------------------------------------------------------- reading

    fn snapshot(&self) -> Snapshot {
        let tables = self.1.read().unwrap_or_else(PoisonError::into_inner).clone();
        Snapshot(self.0.published(), Beside { tables, genesis: self.0.genesis().hash() })
    }

    /// From now on answers prove items of sealed ranges from these tables.
    fn use_tables(&self, tables: &Tables) {
        *self.1.write().unwrap_or_else(PoisonError::into_inner) = Some(tables.0.clone());
    }

    fn resolve(&self, py: Python<'_>, code: Text) -> PyResult<String> {
        self.snapshot().resolve(py, code)
    }

    fn resolve_many(&self, py: Python<'_>, codes: Vec<Text>) -> Vec<String> {
        self.snapshot().resolve_many(py, codes)
    }

    fn answer(&self, py: Python<'_>, code: Text) -> PyResult<Answer> {
        self.snapshot().answer(py, code)
    }

    /// (city, class, base, size, digest of the table file) of every sealed range.
    fn sealed_tables<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let rows = PyList::empty(py);
        for (range, digest) in py.detach(|| self.0.sealed_tables()).map_err(to_py)? {
            let base = u64::from(range.base.get());
            rows.append((range.city.as_str(), range.class.as_str(), base, range.size, PyBytes::new(py, &digest)))?;
        }
        Ok(rows)
    }

    /// (height, JSON receipt) of a transaction within the replay window.
    fn receipt(&self, id: Bytes) -> PyResult<Option<(u64, String)>> {
        let Some((height, receipt)) = self.0.receipt(&id.fixed("an id")?) else { return Ok(None) };
        let receipt = Receipt::decode(&receipt).map_err(to_py)?;
        Ok(Some((height, receipt.to_json(height).to_string())))
    }

    /// (receipt, index, size, path) for a proof under the receipts root of its header, within the replay window.
    #[allow(clippy::type_complexity)]
    fn receipt_proof<'py>(&self, py: Python<'py>, id: Bytes) -> PyResult<Option<(Bound<'py, PyBytes>, u64, u64, Bound<'py, PyList>)>> {
        let id = id.fixed("an id")?;
        match (self.0.receipt(&id), py.detach(|| self.0.receipt_proof(&id))) {
            (Some((_, receipt)), Some((index, size, path))) => Ok(Some((PyBytes::new(py, &receipt), index, size, bytes_list(py, &path)?))),
            _ => Ok(None),
        }
    }

    /// RFC 9162 inclusion path of the header of height `index` in the log of `size` headers: 32 bytes a hash.
    fn inclusion<'py>(&self, py: Python<'py>, index: u64, size: u64) -> PyResult<Bound<'py, PyBytes>> {
        Ok(joined(py, &self.0.inclusion(index, size).map_err(to_py)?))
    }

    /// RFC 9162 consistency proof between two sizes of the log: 32 bytes a hash.
    fn consistency<'py>(&self, py: Python<'py>, size1: u64, size2: u64) -> PyResult<Bound<'py, PyBytes>> {
        Ok(joined(py, &self.0.consistency(size1, size2).map_err(to_py)?))
    }

    fn log_root_at<'py>(&self, py: Python<'py>, size: u64) -> PyResult<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, &self.0.log_root_at(size).map_err(to_py)?))
    }

    /// Begins a snapshot of the last committed height; (header, commit certificate) of every set change, ascending.
    fn write_snapshot(&self, py: Python<'_>, walk: Vec<(Bytes, Bytes)>) -> PyResult<SnapshotWriter> {
        py.detach(|| SnapshotWriter::begin(&self.0, &walk)).map_err(to_py)
    }

    /// Puts a finished snapshot in the place of everything that this ledger holds.
    fn install(&self, py: Python<'_>, snapshot: &SnapshotLoader) -> PyResult<()> {
        let ready = snapshot.take()?;
        py.detach(|| self.0.install(ready)).map_err(to_py)
    }

    /// The records of block 0, in the form of `Commit.changes`: no store holds them.
    fn genesis_changes<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.genesis_changes())
    }

    /// The complete subtrees of the log of the first `size` headers: 32 bytes a hash.
    fn log_peaks<'py>(&self, py: Python<'py>, size: u64) -> PyResult<Bound<'py, PyBytes>> {
        Ok(joined(py, &self.0.log_peaks(size).map_err(to_py)?))
    }

    /// A page of what a snapshot holds under a prefix: ((key, code or None, record) each, where the next page begins or None, how
    /// many sealed ranges were passed).
    #[allow(clippy::type_complexity)]
    #[pyo3(signature = (snapshot, prefix, *, after=None, limit=1000, ranges=false))]
    fn listing<'py>(
        &self,
        py: Python<'py>,
        snapshot: &Snapshot,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        ranges: bool,
    ) -> PyResult<(Vec<(Bound<'py, PyBytes>, Option<String>, Bound<'py, PyBytes>)>, Option<String>, usize)> {
        let prefix = Prefix::parse(prefix).map_err(to_py)?;
        let after = after.map(parse_cursor).transpose().map_err(to_py)?;
        let request = Request { prefix: &prefix, after: after.as_deref(), limit, ranges };
        let page = py.detach(|| self.0.directory().list(&*snapshot.0.state, &request)).map_err(to_py)?;
        let rows = page.entries.iter().map(|entry| (PyBytes::new(py, &entry.key), entry.code.clone(), PyBytes::new(py, &entry.record)));
        Ok((rows.collect(), page.next.as_deref().map(cursor), page.sealed))
    }

    /// Counts since this ledger was made.
    fn counters<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let counters = &self.0.counters;
        let counts = PyDict::new(py);
        for (name, value) in [
            ("verified_signatures", &counters.signatures),
            ("batches", &counters.batches),
            ("transactions", &counters.transactions),
            ("executions", &counters.executions),
            ("committed", &counters.committed),
            ("rejected", &counters.rejected),
        ] {
            counts.set_item(name, value.load(Ordering::Relaxed))?;
        }
        Ok(counts)
    }
}

/// One committed block to read from, whatever is committed meanwhile.
#[pyclass(frozen, module = "cityid._native")]
pub struct Snapshot(pub Arc<Published>, pub Beside);

/// The most versions of a table that are looked through for one item.
const MAX_TABLE_VERSIONS: usize = 10_000;

/// What stands beside a block for those who read from it.
pub struct Beside {
    tables: Option<Arc<cityid_tables::Tables>>,
    /// The genesis hash.
    pub genesis: Hash,
}

impl Beside {
    /// What the sealed table holds at an index, if it is at hand.
    fn lookup(&self, table: &Table, index: u32) -> Option<TableProof> {
        self.tables.as_ref()?.lookup(table, index)
    }

    /// The version of an item with this hash, from the table with a digest or those before it, as far as they are at hand. A
    /// file that is damaged is not at hand; [`Tables::damaged`](cityid_tables::Tables::damaged) names it.
    fn sealed_version(&self, digest: Hash, serial: Serial, hash: &Hash) -> Option<Vec<u8>> {
        let tables = self.tables.as_ref()?;
        let mut next = Some(digest);
        for _ in 0..MAX_TABLE_VERSIONS {
            let file = tables.get(&next?)?;
            let head = file.index().head();
            let found = head.index(serial).ok().and_then(|index| file.record(index).ok().flatten());
            match found {
                Some(record) if record_hash(&record) == *hash => return Some(record),
                // Older tables hold older versions, or nothing.
                _ => next = head.previous,
            }
        }
        None
    }
}

#[pymethods]
impl Snapshot {
    #[getter]
    fn height(&self) -> u64 {
        self.0.height
    }

    /// The record of a range as JSON, or None.
    fn range(&self, city: &str, cls: &str, base: u32, size: u64) -> PyResult<Option<String>> {
        let range =
            Range::new(City::parse(city).map_err(to_py)?, Class::parse(cls).map_err(to_py)?, Serial::new(base).map_err(to_py)?, size)
                .map_err(to_py)?;
        let Some(bytes) = self.0.state.get(&range.key().path()) else { return Ok(None) };
        Ok(Some(Record::decode(&bytes).map_err(to_py)?.to_json().to_string()))
    }

    /// What is known of a code, as JSON, without proof.
    fn resolve(&self, py: Python<'_>, code: Text) -> PyResult<String> {
        let subject = Subject::parse(&code.0, None).map_err(to_py)?;
        py.detach(|| self.0.resolve_with_tables(&subject, &|table, index| self.1.lookup(table, index)))
            .map(|value| value.to_string())
            .map_err(to_py)
    }

    /// The same for many codes; a row that is no code has the verdict "INVALID" and an "error".
    fn resolve_many(&self, py: Python<'_>, codes: Vec<Text>) -> Vec<String> {
        py.detach(|| {
            let tables = |table: &Table, index: u32| self.1.lookup(table, index);
            let resolve = |subject: Subject| self.0.resolve_with_tables(&subject, &tables);
            let row = |Text(code): &Text| match Subject::parse(code, None).and_then(resolve) {
                Ok(value) => value.to_string(),
                Err(error) => serde_json::json!({"subject": code, "verdict": "INVALID", "error": error.to_string()}).to_string(),
            };
            codes.iter().map(row).collect()
        })
    }

    /// The version of an item with this hash, from the tables of its range that are at hand.
    fn sealed_version<'py>(&self, py: Python<'py>, key: Bytes, hash: Bytes) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let hash = hash.fixed("a hash")?;
        let Some((city, class, serial)) = item_place(&key) else { return Ok(None) };
        let found = py.detach(|| {
            [MapKey::Thousand(city, class, serial), MapKey::Million(city, class, serial)].iter().find_map(|range| {
                let record = Record::decode(&self.0.state.get(&range.path())?).ok()?;
                self.1.sealed_version(record.table?.digest, serial, &hash)
            })
        });
        Ok(found.map(|record| PyBytes::new(py, &record)))
    }

    /// The encoded record under a map key.
    fn record<'py>(&self, py: Python<'py>, key: Bytes) -> Option<Bound<'py, PyBytes>> {
        self.0.state.get(&path_of(&key)).map(|record| PyBytes::new(py, &record))
    }

    /// Records under some keys, ascending, proven together, with versions before each.
    fn audit_page(&self, py: Python<'_>, entries: Vec<(Bytes, Vec<Bytes>)>) -> PyResult<AuditPage> {
        check_keys(entries.len())?;
        let certified = self
            .0
            .certified
            .as_ref()
            .ok_or_else(|| RuleViolation::new_err(("not_ready", "no block has been certified yet; ask again after the first block")))?;
        py.detach(|| {
            let versions = |versions: &[Bytes]| versions.iter().map(|version| version.to_vec()).collect();
            Page::build(&*self.0.state, certified, entries.iter().map(|(key, before)| (key.to_vec(), versions(before))))
        })
        .map(AuditPage)
        .map_err(to_py)
    }

    /// The answer about a code, with its proof.
    fn answer(&self, py: Python<'_>, code: Text) -> PyResult<Answer> {
        let subject = Subject::parse(&code.0, None).map_err(to_py)?;
        let tables = |table: &Table, index: u32| self.1.lookup(table, index);
        py.detach(|| published_answer_with_tables(&self.0, &subject, &tables)).map(Answer).map_err(to_py)
    }
    /// A proposal as JSON, its change spelled out, without proof.
    fn proposal(&self, number: u64) -> PyResult<Option<String>> {
        Ok(self.0.proposal(number).map_err(to_py)?.map(|value| value.to_string()))
    }

    /// What the network has decided about itself, as JSON, without proof.
    fn configuration(&self) -> PyResult<String> {
        Ok(self.0.configuration().map_err(to_py)?.to_string())
    }
}
