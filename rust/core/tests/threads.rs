//! One ledger under many threads: admission, sealing, execution, commits and answers at once, without a deadlock and without an
//! answer that mixes two heights.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use cityid_core::answer::{verify, Options, VerdictKind};
use cityid_core::code::{City, Subject};
use cityid_core::genesis::Genesis;
use cityid_core::ledger::operation::Operation;
use cityid_core::ledger::transaction::{assemble, assemble_batch, signing_message, transaction_id, Body};
use cityid_core::ledger::{published_answer, Ledger};
use cityid_core::trust::Trust;
use cityid_core::vote::{CommitCertificate, CommitSignature};
use ed25519_zebra::SigningKey;
use serde_json::json;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

mod support;

fn certificate(ledger: &Ledger, height: u64, value: [u8; 32]) -> Vec<u8> {
    let certificate = CommitCertificate { height, round: 0, value, validators: 4, signatures: Vec::new() };
    let message = certificate.sign_bytes(&ledger.genesis().hash());
    let signatures = (0..3)
        .map(|index: u16| CommitSignature { index, signature: support::secret(usize::from(index), 2).sign(&message).to_bytes() })
        .collect();
    CommitCertificate { signatures, ..certificate }.encode()
}

/// Signed by the second city; every number gives another transaction, and most are refused by the rule.
fn transaction(genesis: &[u8; 32], signer: &SigningKey, number: u64, height: u64) -> Vec<u8> {
    let operation = json!({"op": "allocate_range", "city": "130100", "class": format!("{:06}", number % 3), "size": 1000});
    let body = Body {
        genesis: *genesis,
        valid_until: height + 1_000,
        nonce: number.to_be_bytes().to_vec(),
        signers: vec![support::public(1, 1)],
        operations: vec![Operation::from_json(operation).unwrap()],
    }
    .encode();
    assemble(&body, &[signer.sign(&signing_message(&transaction_id(&body))).to_bytes()])
}

#[test]
fn threads_share_a_ledger() {
    let genesis: Genesis = support::genesis_of(4);
    let trust = Trust::from_genesis(&genesis).unwrap();
    let ledger = Ledger::new(genesis, [3; 32]).unwrap();
    let genesis_hash = ledger.genesis().hash();
    let city = City::parse("130100").unwrap();
    let stop = AtomicBool::new(false);
    let numbers = AtomicU64::new(0);
    let answers = AtomicU64::new(0);
    let speculations = AtomicU64::new(0);
    let going = || !stop.load(Ordering::Relaxed);
    let start = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // The driver: the only one that commits.
            while start.elapsed() < Duration::from_millis(1_200) {
                let mut digests = Vec::new();
                while let Some(batch) = ledger.seal(64, 1 << 16) {
                    digests.push(batch.digest);
                }
                digests.truncate(200);
                let (tip, _) = ledger.tip();
                let candidate = ledger.execute(tip.height + 1, tip.time_ms + 1, city, &digests).unwrap();
                let proof = certificate(&ledger, candidate.header.height, candidate.value);
                ledger.commit(candidate, &proof).unwrap();
            }
            stop.store(true, Ordering::Relaxed);
        });
        for _ in 0..2 {
            scope.spawn(|| {
                let signer = support::secret(1, 1);
                while going() {
                    let first = numbers.fetch_add(8, Ordering::Relaxed);
                    let height = ledger.published().height;
                    let sequence: Vec<u8> =
                        (first..first + 8).flat_map(|number| transaction(&genesis_hash, &signer, number, height)).collect();
                    assert!(ledger.admit(&sequence).unwrap().iter().all(|admission| admission.refused.is_none()));
                }
            });
        }
        scope.spawn(|| {
            // Peers: batches in, given up, queued anew, forgotten.
            let signer = support::secret(1, 1);
            while going() {
                let number = numbers.fetch_add(1, Ordering::Relaxed);
                let body = assemble_batch(1, &transaction(&genesis_hash, &signer, number, ledger.published().height));
                let digest = ledger.ingest(&[&body]).remove(0).0;
                assert!(ledger.missing(&[digest]).is_empty());
                match number % 3 {
                    0 => ledger.forget(&[digest]),
                    _ => drop(ledger.reclaim(&digest)),
                }
                ledger.waiting();
                ledger.pool_size();
            }
        });
        scope.spawn(|| {
            // Other rounds: candidates that are never committed. What they stand on belongs together, whatever is committed meanwhile.
            while going() {
                let before = ledger.published();
                let Ok(candidate) = ledger.execute(before.height + 1, before.time_ms + 1, city, &[]) else {
                    assert!(ledger.published().height > before.height, "refused although the height had not moved");
                    continue;
                };
                assert_eq!(candidate.header.state_root, before.state.root(), "an empty block changes nothing");
                speculations.fetch_add(1, Ordering::Relaxed);
            }
        });
        scope.spawn(|| {
            let subject = Subject::parse("MA.156.130100", None).unwrap();
            while going() {
                let published = ledger.published();
                let Ok(answer) = published_answer(&published, &subject) else { continue };
                let verdict = verify(&answer, &trust, &Options::default());
                assert_eq!((verdict.verdict, verdict.height), (VerdictKind::Registered, Some(published.height)), "{verdict:#?}");
                ledger.log_root_at(published.height).unwrap();
                answers.fetch_add(1, Ordering::Relaxed);
            }
        });
    });
    let height = ledger.published().height;
    assert!(height > 3 && answers.into_inner() > 3 && speculations.into_inner() > 3, "height {height}");
    assert!(ledger.counters.committed.load(Ordering::Relaxed) > 8);
    assert_eq!(ledger.receipt_proof(&[0; 32]), None);
}
