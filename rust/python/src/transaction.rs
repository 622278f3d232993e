//! Building transactions, and reading headers and records, for tools.
use crate::bytes::Bytes;
use crate::error::{to_py, MalformedInput};
use cityid_core::block::{self, Header};
use cityid_core::code::{Code, Serial};
use cityid_core::commitment as commitments;
use cityid_core::error::Error;
use cityid_core::json;
use cityid_core::ledger::operation::{self, Holder, ItemColumns, Operation};
use cityid_core::ledger::transaction::{assemble, signing_message, transaction_id, Body, Transaction};
use cityid_core::record::{Purpose, Record};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

const MAX_OPERATIONS_JSON: usize = 16 << 20;

/// Makes the unsigned body of a transaction: (body, id, message to sign).
///
/// `operations_json` is a JSON list of operations (docs/protocol.md, P22 to P28); `signers` are public keys in any order, and
/// `finish_transaction` takes the signatures in the ascending order of the keys.
#[pyfunction]
pub fn build_transaction<'py>(
    py: Python<'py>,
    genesis_hash: Bytes,
    valid_until: u64,
    nonce: Bytes,
    signers: Vec<Bytes>,
    operations_json: &str,
) -> PyResult<Built<'py>> {
    build(py, &Frame { genesis_hash, valid_until, nonce, signers }, || {
        let value = json::parse(operations_json, MAX_OPERATIONS_JSON, "the list of operations")?;
        let serde_json::Value::Array(values) = value else { return Err(Error::malformed("operations must be a JSON list")) };
        values.into_iter().map(Operation::from_json).collect()
    })
}

/// The same for many items of one category: `register_items` of these serials with these commitments, and where `aliases` has some
/// `register_aliases` in `namespace` for the rows that have one. An empty column stands for one without entries.
#[pyfunction]
#[pyo3(signature = (genesis_hash, valid_until, nonce, signers, *, category, serials, commitments, namespace, aliases))]
#[allow(clippy::too_many_arguments)]
pub fn build_item_transaction<'py>(
    py: Python<'py>,
    genesis_hash: Bytes,
    valid_until: u64,
    nonce: Bytes,
    signers: Vec<Bytes>,
    category: &str,
    serials: Vec<u32>,
    commitments: Vec<Vec<(String, Bytes)>>,
    namespace: &str,
    aliases: Vec<Option<String>>,
) -> PyResult<Built<'py>> {
    let row = |row: Vec<(String, Bytes)>| row.into_iter().map(|(name, value)| Ok((name, value.fixed("a commitment")?))).collect();
    let commitments = commitments.into_iter().map(row).collect::<PyResult<Vec<_>>>()?;
    build(py, &Frame { genesis_hash, valid_until, nonce, signers }, || {
        let Code::Category { city, org, category } = Code::parse(category, None)? else {
            return Err(Error::malformed(format!("{category:?} is not the code of a category, such as MA.156.130100.A7K2/60.010203.1")));
        };
        let serials = serials.into_iter().map(Serial::new).collect::<Result<_, _>>()?;
        let holder = Holder { city, org };
        ItemColumns { holder, category, serials, commitments, namespace: namespace.to_owned(), aliases }.operations()
    })
}

/// (body, id, message to sign).
type Built<'py> = (Bound<'py, PyBytes>, Bound<'py, PyBytes>, Bound<'py, PyBytes>);

/// What stands around the operations of a transaction.
struct Frame {
    genesis_hash: Bytes,
    valid_until: u64,
    nonce: Bytes,
    signers: Vec<Bytes>,
}

fn build<'py>(py: Python<'py>, frame: &Frame, operations: impl FnOnce() -> Result<Vec<Operation>, Error> + Send) -> PyResult<Built<'py>> {
    let mut signers: Vec<[u8; 32]> = frame.signers.iter().map(|signer| signer.fixed("a public key")).collect::<PyResult<_>>()?;
    signers.sort_unstable();
    if !(8..=32).contains(&frame.nonce.len()) {
        return Err(MalformedInput::new_err(format!("a nonce of {} bytes; it takes 8 to 32", frame.nonce.len())));
    }
    let genesis = frame.genesis_hash.fixed("a genesis hash")?;
    let (valid_until, nonce) = (frame.valid_until, frame.nonce.to_vec());
    let (body, id) = py
        .detach(|| {
            let body = Body { genesis, valid_until, nonce, signers, operations: operations()? }.encode();
            let id = transaction_id(&body);
            Ok((body, id))
        })
        .map_err(to_py)?;
    Ok((PyBytes::new(py, &body), PyBytes::new(py, &id), PyBytes::new(py, &signing_message(&id))))
}

/// Puts a body and the signatures of its signers, in ascending order of their keys, together. What does not parse is refused here already.
#[pyfunction]
pub fn finish_transaction<'py>(py: Python<'py>, body: Bytes, signatures: Vec<Bytes>) -> PyResult<Bound<'py, PyBytes>> {
    let signatures: Vec<[u8; 64]> = signatures.iter().map(|signature| signature.fixed("a signature")).collect::<PyResult<_>>()?;
    let transaction = assemble(&body, &signatures);
    Transaction::decode(&transaction).map_err(to_py)?;
    Ok(PyBytes::new(py, &transaction))
}

/// A transaction as JSON.
#[pyfunction]
pub fn transaction_json(transaction: Bytes) -> PyResult<String> {
    Ok(Transaction::decode(&transaction).map_err(to_py)?.to_json().to_string())
}

/// What the holder of a new key signs to show that it has the private half (P16).
#[pyfunction]
pub fn possession_message<'py>(
    py: Python<'py>,
    genesis_hash: Bytes,
    subject: &str,
    purpose: &str,
    public_key: Bytes,
) -> PyResult<Bound<'py, PyBytes>> {
    let subject = Code::parse(subject, None).map_err(to_py)?;
    let purpose = Purpose::from_name(purpose).map_err(to_py)?;
    let message =
        operation::possession_message(&genesis_hash.fixed("a genesis hash")?, &subject, purpose, &public_key.fixed("a public key")?);
    Ok(PyBytes::new(py, &message))
}

/// Salted commitment to one attribute of a subject: 32 bytes. The salt has 16 bytes and is fresh for every attribute and version.
#[pyfunction]
pub fn commitment<'py>(
    py: Python<'py>,
    code: &str,
    attribute: &str,
    schema: &str,
    salt: Bytes,
    value: &str,
) -> PyResult<Bound<'py, PyBytes>> {
    let salt = salt.fixed("a salt")?;
    Ok(PyBytes::new(py, &commitments::commitment(code, attribute, schema, &salt, value).map_err(to_py)?))
}

/// A record as JSON.
#[pyfunction]
pub fn record_json(record: Bytes) -> PyResult<String> {
    Ok(Record::decode(&record).map_err(to_py)?.to_json().to_string())
}

/// A header as JSON.
#[pyfunction]
pub fn header_json(header: Bytes) -> PyResult<String> {
    Ok(Header::decode(&header).map_err(to_py)?.to_json().to_string())
}

/// Tagged hash of a header: the `parent` of the next one.
#[pyfunction]
pub fn header_hash<'py>(py: Python<'py>, header: Bytes) -> Bound<'py, PyBytes> {
    PyBytes::new(py, &block::header_hash(&header))
}
