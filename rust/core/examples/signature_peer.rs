//! ed25519-zebra, for a bench that takes turns with it: `signature_peer batch|single FILE MESSAGE_BYTES`.
//!
//! FILE holds records of key (32 bytes), signature (64) and message. For each line on standard input everything is verified once,
//! on one thread, and a line is printed; who asked reads the CPU time of this process. A bad signature ends the program.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use ed25519_zebra::{batch, Signature, VerificationKey, VerificationKeyBytes};
use std::io::{stdin, stdout, BufRead, Write};

struct Signed<'a> {
    key: [u8; 32],
    signature: [u8; 64],
    message: &'a [u8],
}

fn verify_batch(signed: &[Signed<'_>]) {
    let mut queue = batch::Verifier::new();
    for one in signed {
        queue.queue((VerificationKeyBytes::from(one.key), Signature::from_bytes(&one.signature), &one.message));
    }
    queue.verify(rand::rng()).expect("every signature of the file verifies");
}

fn verify_each(signed: &[Signed<'_>]) {
    for one in signed {
        let key = VerificationKey::try_from(one.key).expect("a key of the file does not parse");
        key.verify(&Signature::from_bytes(&one.signature), one.message).expect("every signature of the file verifies");
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, how, file, message_size] = &arguments[..] else { panic!("arguments: batch|single FILE MESSAGE_BYTES") };
    let data = std::fs::read(file).unwrap();
    let parse = |record: &'_ [u8]| (record[..32].try_into().unwrap(), record[32..96].try_into().unwrap());
    let signed: Vec<Signed<'_>> = data
        .chunks_exact(96 + message_size.parse::<usize>().unwrap())
        .map(|record| {
            let (key, signature) = parse(record);
            Signed { key, signature, message: &record[96..] }
        })
        .collect();
    let verify = if how == "batch" { verify_batch } else { verify_each };
    for _line in stdin().lock().lines() {
        verify(&signed);
        println!("done");
        stdout().flush().unwrap();
    }
}
