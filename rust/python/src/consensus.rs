//! The consensus engine. Every method runs one input to its end and returns the effects in order, as tuples; the interpreter
//! is released meanwhile, and taken back only to call the signer.
//!
//! Bytes from other cities never raise: what is wrong with them is an effect. An exception means a call that makes no sense.
use crate::bytes::Bytes;
use crate::error::to_py;
use cityid_consensus::{Effect, Engine, Evidence, ProposedBlock, Signer, Timeouts, TimerKind};
use cityid_core::error::Error;
use cityid_core::vote::CommitCertificate;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyTuple};
use std::ops::Deref;

/// One city's part in consensus.
#[pyclass(module = "cityid._native")]
pub struct Consensus {
    engine: Engine,
}

#[pymethods]
impl Consensus {
    #[new]
    #[pyo3(signature = (public_key, signer, genesis_hash, seed, *, propose_ms=500, step_ms=300, precommit_ms=100, delta_ms=200))]
    #[allow(clippy::too_many_arguments)] // the timeouts are keywords in Python
    fn new(
        public_key: Bytes,
        signer: Py<PyAny>,
        genesis_hash: Bytes,
        seed: Bytes,
        propose_ms: u64,
        step_ms: u64,
        precommit_ms: u64,
        delta_ms: u64,
    ) -> PyResult<Self> {
        let (key, genesis, seed) = (public_key.fixed("a public key")?, genesis_hash.fixed("a genesis hash")?, seed.fixed("a seed")?);
        let timeouts = Timeouts { propose_ms, prevote_ms: step_ms, precommit_ms, delta_ms };
        let engine = Engine::new(key, Box::new(PythonSigner { signer }), genesis, seed, timeouts).map_err(to_py)?;
        Ok(Consensus { engine })
    }

    #[pyo3(signature = (*, propose_ms, step_ms, precommit_ms, delta_ms))]
    fn set_timeouts(&mut self, propose_ms: u64, step_ms: u64, precommit_ms: u64, delta_ms: u64) -> PyResult<()> {
        self.engine.set_timeouts(Timeouts { propose_ms, prevote_ms: step_ms, precommit_ms, delta_ms }).map_err(to_py)
    }

    fn start_height<'py>(&mut self, py: Python<'py>, height: u64, validators: Vec<Bytes>) -> PyResult<Bound<'py, PyList>> {
        let validators = public_keys(&validators)?;
        self.run(py, |engine| engine.start_height(height, &validators))
    }

    fn recover<'py>(&mut self, py: Python<'py>, height: u64, validators: Vec<Bytes>, entries: Vec<Bytes>) -> PyResult<Bound<'py, PyList>> {
        let validators = public_keys(&validators)?;
        self.run(py, |engine| engine.recover(height, &validators, &slices(&entries)))
    }

    fn receive<'py>(&mut self, py: Python<'py>, messages: Vec<Bytes>) -> PyResult<Bound<'py, PyList>> {
        self.run(py, |engine| engine.receive(&slices(&messages)))
    }

    fn propose<'py>(&mut self, py: Python<'py>, height: u64, round: i32, value: Bytes) -> PyResult<Bound<'py, PyList>> {
        let value = value.fixed("a value")?;
        self.run(py, |engine| engine.propose(height, round, value))
    }

    #[pyo3(signature = (height, round, valid_round, proposer, value, valid, sync))]
    #[allow(clippy::too_many_arguments)] // one verdict, as the node's driver has it
    fn proposed_value<'py>(
        &mut self,
        py: Python<'py>,
        height: u64,
        round: i32,
        valid_round: i32,
        proposer: u16,
        value: Bytes,
        valid: bool,
        sync: bool,
    ) -> PyResult<Bound<'py, PyList>> {
        let block = ProposedBlock { height, round, valid_round, proposer, value: value.fixed("a value")?, valid, sync };
        self.run(py, |engine| engine.proposed_value(block))
    }

    fn timeout<'py>(&mut self, py: Python<'py>, kind: &str, round: i32) -> PyResult<Bound<'py, PyList>> {
        let kind = TimerKind::parse(kind).map_err(to_py)?;
        self.run(py, |engine| engine.timeout(kind, round))
    }

    fn sync_value<'py>(&mut self, py: Python<'py>, certificate: Bytes, value: Bytes) -> PyResult<Bound<'py, PyList>> {
        let value = value.fixed("a value")?;
        self.run(py, |engine| engine.sync_value(&certificate, value))
    }

    #[getter]
    fn height(&self) -> u64 {
        self.engine.height()
    }

    #[getter]
    fn round(&self) -> i32 {
        self.engine.round()
    }

    #[getter]
    fn step(&self) -> &'static str {
        self.engine.step()
    }

    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let counters = self.engine.counters();
        let out = PyDict::new(py);
        for (name, count) in [
            ("inputs", counters.inputs),
            ("signed", counters.signed),
            ("malformed", counters.malformed),
            ("forged", counters.forged),
            ("stale", counters.stale),
            ("early", counters.early),
            ("ahead", counters.ahead),
            ("verified_single", counters.verify.single),
            ("verified_batched", counters.verify.batched),
            ("batches", counters.verify.batches),
            ("remembered", counters.verify.remembered),
            ("refused", counters.verify.refused),
        ] {
            out.set_item(name, count)?;
        }
        Ok(out)
    }
}

impl Consensus {
    fn run<'py>(
        &mut self,
        py: Python<'py>,
        call: impl FnOnce(&mut Engine) -> Result<Vec<Effect>, Error> + Send,
    ) -> PyResult<Bound<'py, PyList>> {
        let engine = &mut self.engine;
        let effects = py.detach(|| call(engine)).map_err(to_py)?;
        PyList::new(py, effects.iter().map(|effect| tuple(py, effect)).collect::<PyResult<Vec<_>>>()?)
    }
}

/// The height of a consensus message, without parsing the rest.
#[pyfunction]
pub fn message_height(message: Bytes) -> PyResult<u64> {
    cityid_consensus::message_height(&message).map_err(to_py)
}

/// Checks a commit certificate under validators that the caller trusts: (height, round, value, signatures), or
/// CertificateInvalid.
#[pyfunction]
pub fn verify_certificate<'py>(
    py: Python<'py>,
    genesis_hash: Bytes,
    validators: Vec<Bytes>,
    certificate: Bytes,
) -> PyResult<(u64, u32, Bound<'py, PyBytes>, usize)> {
    let (genesis, validators) = (genesis_hash.fixed("a genesis hash")?, public_keys(&validators)?);
    let (certificate, signatures) = py
        .detach(|| {
            let certificate = CommitCertificate::decode(&certificate)?;
            let signatures = cityid_core::vote::verify_certificate(&genesis, &validators, &certificate)?;
            Ok((certificate, signatures))
        })
        .map_err(to_py)?;
    Ok((certificate.height, certificate.round, PyBytes::new(py, &certificate.value), signatures))
}

/// Any Python object with `sign(message: bytes) -> bytes`.
struct PythonSigner {
    signer: Py<PyAny>,
}

impl Signer for PythonSigner {
    fn sign(&mut self, message: &[u8]) -> Result<[u8; 64], String> {
        Python::attach(|py| {
            let signature = self.signer.call_method1(py, "sign", (PyBytes::new(py, message),))?;
            signature.extract::<Bytes>(py)?.fixed("a signature")
        })
        .map_err(|error: PyErr| error.to_string())
    }
}

/// An effect as the node's driver matches on it: its name, then its fields.
fn tuple<'py>(py: Python<'py>, effect: &Effect) -> PyResult<Bound<'py, PyTuple>> {
    let bytes = |data: &[u8]| PyBytes::new(py, data);
    match effect {
        Effect::Log { height, entry } => ("wal", height, bytes(entry)).into_pyobject(py),
        Effect::Publish(message) => ("publish", bytes(message)).into_pyobject(py),
        Effect::Timer { kind, round, duration_us } => ("timer", kind.name(), round, duration_us).into_pyobject(py),
        Effect::Cancel { kind, round } => ("cancel", kind.name(), round).into_pyobject(py),
        Effect::CancelAll => ("cancel_all",).into_pyobject(py),
        Effect::StartRound { height, round, proposer, role } => ("start_round", height, round, proposer, role.name()).into_pyobject(py),
        Effect::GetValue { height, round } => ("get_value", height, round).into_pyobject(py),
        Effect::Restream { height, round, valid_round, value } => ("restream", height, round, valid_round, bytes(value)).into_pyobject(py),
        Effect::Decide { height, round, value, certificate } => {
            ("decide", height, round, bytes(value), bytes(certificate)).into_pyobject(py)
        }
        Effect::Finalize { height, certificate, evidence } => {
            let pairs: Vec<_> = evidence.iter().map(|Evidence { kind, first, second }| (*kind, bytes(first), bytes(second))).collect();
            ("finalize", height, bytes(certificate), pairs).into_pyobject(py)
        }
        Effect::SyncVerified { height, round, value, proposer } => {
            ("sync_verified", height, round, bytes(value), proposer).into_pyobject(py)
        }
        Effect::SyncRejected { height, reason } => ("sync_rejected", height, reason).into_pyobject(py),
        Effect::Error { reason, position } => ("error", reason, position).into_pyobject(py),
        Effect::Fatal(reason) => ("fatal", reason).into_pyobject(py),
    }
}

fn public_keys(keys: &[Bytes]) -> PyResult<Vec<[u8; 32]>> {
    keys.iter().map(|key| key.fixed("a public key")).collect()
}

fn slices(items: &[Bytes]) -> Vec<&[u8]> {
    items.iter().map(Deref::deref).collect()
}
