//! Checkpoints, notes and cosignatures against the examples of C2SP and Go, and against every small edit.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use cityid_core::checkpoint::{
    cosignature_message, key_id, note, parse_note, verify_cosignatures, Checkpoint, Cosignature, CosignerKey, SignatureLine,
};
use cityid_core::error::Error;
use ed25519_zebra::{Signature, SigningKey, VerificationKey};

/// The example of c2sp.org/tlog-cosignature.
const EXAMPLE: &str = "example.com/behind-the-sofa
20852163
CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

\u{2014} example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=
\u{2014} witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==
";

fn verify(public_key: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> bool {
    VerificationKey::try_from(*public_key).is_ok_and(|key| key.verify(&Signature::from_bytes(signature), message).is_ok())
}

fn signer(number: u8) -> (SigningKey, CosignerKey) {
    let key = SigningKey::from([number; 32]);
    let public = VerificationKey::from(&key).into();
    (key, CosignerKey::new(&format!("{number}.cities.example"), public).unwrap())
}

fn cosign((signing, key): &(SigningKey, CosignerKey), body: &str, time: u64) -> SignatureLine {
    key.line(&Cosignature { time, signature: signing.sign(&cosignature_message(body, time)).into() })
}

#[test]
fn the_example_of_c2sp_is_read_and_printed_alike() {
    let parsed = parse_note(EXAMPLE.as_bytes()).unwrap();
    let checkpoint = Checkpoint::parse(&parsed.body).unwrap();
    assert_eq!((checkpoint.origin(), checkpoint.size(), checkpoint.root()[0]), ("example.com/behind-the-sofa", 20_852_163, 0x0a));
    assert_eq!(checkpoint.body(), parsed.body);
    assert_eq!(note(&parsed.body, &parsed.lines), EXAMPLE);
    assert_eq!((&*parsed.lines[1].name, parsed.lines[1].key_id), ("witness.example.com/w1", [0x8d, 0x66, 0xcf, 0x3f]));
    let time = Cosignature::parse(&parsed.lines[1].signature).unwrap().time;
    assert_eq!(time, 1_679_315_147);
    let message = "cosignature/v1\ntime 1679315147\nexample.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n";
    assert_eq!(cosignature_message(&parsed.body, time), message.as_bytes());
    assert!(matches!(Cosignature::parse(&parsed.lines[0].signature), Err(Error::Malformed(_))), "the log's own line has another kind");
}

#[test]
fn key_ids_are_those_of_go() {
    // The verifier key in the documentation of golang.org/x/mod/sumdb/note: PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW.
    use base64::Engine;
    let typed = base64::engine::general_purpose::STANDARD.decode("ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW").unwrap();
    assert_eq!(key_id("PeterNeumann", typed[0], &typed[1..]), [0xc7, 0x4f, 0x20, 0xa3]);
}

#[test]
fn other_texts_of_a_checkpoint_are_refused() {
    let root = "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=";
    Checkpoint::parse(&format!("o\n0\n{root}\n")).expect("the control passes");
    Checkpoint::parse(&format!("o\n18446744073709551615\n{root}\n")).expect("the largest size passes");
    let long = "o".repeat(256);
    for body in [
        format!("o\n0\n{root}"),
        format!("o\n0\n{root}\n\n"),
        format!("o\n0\n{root}\nextension\n"),
        format!("o\r\n0\n{root}\n"),
        format!("\n0\n{root}\n"),
        format!("{long}\n0\n{root}\n"),
        format!("o\n00\n{root}\n"),
        format!("o\n+1\n{root}\n"),
        format!("o\n-1\n{root}\n"),
        format!("o\n 1\n{root}\n"),
        format!("o\n\n{root}\n"),
        format!("o\n\u{0661}\n{root}\n"),
        format!("o\n18446744073709551616\n{root}\n"),
        format!("o\n1\n{}\n", root.trim_end_matches('=')),
        format!("o\n1\n{}\n", root.replace("2I=", "2J=")),
        format!("o\n1\n{}\n", root.replace('/', "_")),
        format!("o\n1\n{}\n", &root[4..]),
        "o\n1\n\n".to_owned(),
        String::new(),
    ] {
        assert!(matches!(Checkpoint::parse(&body), Err(Error::Malformed(_))), "{body:?}");
    }
    assert!(matches!(Checkpoint::new("two\nlines", 1, [0; 32]), Err(Error::Malformed(_))));
}

#[test]
fn other_notes_are_refused() {
    let line = EXAMPLE.lines().last().unwrap();
    let with = |text: String| parse_note(text.as_bytes());
    with(format!("text\n\nmore text\n\n{line}\n")).expect("an empty line inside the text is allowed");
    with(format!("text\n\n{}", format!("{line}\n").repeat(100))).expect("a hundred lines pass");
    for text in [
        format!("text\n{line}\n"),
        format!("text\n\n{line}"),
        "text\n\n".to_owned(),
        "text\n\n\n".to_owned(),
        format!("text\n\n{line}\n\n"),
        format!("text\t\n\n{line}\n"),
        format!("text\r\n\r\n{line}\r\n"),
        format!("text\n\n{}\n", line.replace('\u{2014}', "-")),
        format!("text\n\n{}\n", line.replace("\u{2014} ", "\u{2014}  ")),
        format!("text\n\n{}\n", line.replace("w1 ", "w1\u{00a0}")),
        format!("text\n\n{}\n", line.replace("w1", "w+1")),
        format!("text\n\n{line} \n"),
        format!("text\n\n{}\n", line.trim_end_matches('=')),
        "text\n\n\u{2014} name jWbPPw==\n".to_owned(),
        "text\n\n\u{2014} name jWbP\n".to_owned(),
        "text\n\n\u{2014} name\n".to_owned(),
        format!("text\n\n{}", format!("{line}\n").repeat(101)),
        format!("{}\n\n{line}\n", "x".repeat(64 * 1024)),
    ] {
        assert!(matches!(with(text.clone()), Err(Error::Malformed(_))), "{text:?}");
    }
    assert!(matches!(parse_note(&[0xff, b'\n', b'\n']), Err(Error::Malformed(_))));
}

#[test]
fn cosignatures_verify_and_bear_no_edit() {
    let signers = [signer(1), signer(2), signer(3)];
    let keys: Vec<CosignerKey> = signers.iter().map(|(_, key)| key.clone()).collect();
    let body = Checkpoint::new("cities.example/1f3a", 77, [9; 32]).unwrap().body();
    let lines = [cosign(&signers[2], &body, 1_700_000_000), cosign(&signers[0], &body, 1_700_000_009)];
    let text = note(&body, &lines);
    let check = |text: &[u8]| parse_note(text).and_then(|note| verify_cosignatures(&note, &keys, verify));
    assert_eq!(check(text.as_bytes()).unwrap(), [(2, 1_700_000_000), (0, 1_700_000_009)]);

    // Any bit of the note: refused, or (in a name or key id) a line of a key that nobody knows, which does not count.
    for bit in 0..text.len() * 8 {
        let mut edited = text.clone().into_bytes();
        edited[bit / 8] ^= 1 << (bit % 8);
        match check(&edited) {
            Err(Error::Malformed(_) | Error::Proof(_)) => {}
            Ok(found) => assert!(found.len() < 2, "bit {bit}"),
            Err(other) => panic!("{other:?}"),
        }
    }
    // A line of another text, of an unknown key, of a known name with another key, and twice the same.
    let other = note(&body.replace("77", "78"), &lines);
    assert!(matches!(check(other.as_bytes()), Err(Error::Proof(_))));
    let stranger = (signer(4).0, CosignerKey::new(keys[1].name(), *signer(4).1.public_key()).unwrap());
    let mixed = note(&body, &[cosign(&signer(4), &body, 5), cosign(&stranger, &body, 5), lines[0].clone(), lines[0].clone()]);
    assert_eq!(check(mixed.as_bytes()).unwrap(), [(2, 1_700_000_000)]);
    // A known key's line of another length or with a time that no signed 64-bit number holds.
    let mut short = lines[0].clone();
    short.signature.pop();
    assert!(matches!(check(note(&body, &[short]).as_bytes()), Err(Error::Malformed(_))));
    let late = cosign(&signers[0], &body, 1 << 63);
    assert!(matches!(check(note(&body, &[late]).as_bytes()), Err(Error::Malformed(_))));
}

#[test]
fn verifier_keys_have_one_text() {
    let key = signer(7).1;
    let text = key.verifier_key();
    assert_eq!(CosignerKey::parse(&text).unwrap(), key);
    for bit in 0..text.len() * 8 {
        let mut edited = text.clone().into_bytes();
        edited[bit / 8] ^= 1 << (bit % 8);
        if let Ok(edited) = std::str::from_utf8(&edited) {
            assert!(matches!(CosignerKey::parse(edited), Err(Error::Malformed(_))), "{edited}");
        }
    }
    let upper = text.replace(&cityid_core::hash::hex(&key.id()), &cityid_core::hash::hex(&key.id()).to_uppercase());
    assert!(upper == text || CosignerKey::parse(&upper).is_err());
    for name in ["", "two words", "a+b", "tab\t", "no\u{00a0}break", &"n".repeat(256)] {
        assert!(matches!(CosignerKey::new(name, [0; 32]), Err(Error::Malformed(_))), "{name:?}");
    }
    assert!(matches!(CosignerKey::parse("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"), Err(Error::Malformed(_))));
}
