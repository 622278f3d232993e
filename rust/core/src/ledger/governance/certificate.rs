//! The TLS certificate that a city brings: that it can belong to its tls key (P61).
//!
//! Checked: the outer structure (one DER SEQUENCE that is the whole, with the three parts of RFC 5280 section 4.1 in it) and that the one
//! Ed25519 key in it (RFC 8410) is the city's. Not checked: names, dates, extensions and the signature; nodes pin the key and let their TLS
//! library judge the rest, and the rule of the chain must not depend on how a library reads a date.
use crate::error::Error;
use crate::record::MAX_CERTIFICATE;

/// What stands before the 32 bytes of a public key in a certificate (RFC 8410 section 4): SEQUENCE, algorithm 1.3.101.112, BIT STRING.
const KEY_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
const SEQUENCE: u8 = 0x30;
const BIT_STRING: u8 = 0x03;

/// Refuses bytes that are no certificate of this key.
pub fn check(certificate: &[u8], key: &[u8; 32]) -> Result<(), Error> {
    let bad =
        |why: &str| Err(Error::rule("bad_certificate", format!("the TLS certificate is refused: {why}; make it anew from the tls key")));
    if certificate.len() > MAX_CERTIFICATE {
        return bad("it is longer than 1,024 bytes");
    }
    let parts = match value(SEQUENCE, certificate) {
        Some((parts, [])) => parts,
        _ => return bad("it is not one DER SEQUENCE"),
    };
    let body = value(SEQUENCE, parts).and_then(|(body, rest)| {
        let (_, rest) = value(SEQUENCE, rest)?;
        let (_, rest) = value(BIT_STRING, rest)?;
        rest.is_empty().then_some(body)
    });
    let Some(body) = body else { return bad("it does not hold a body, an algorithm and a signature") };
    let mut found = body.windows(KEY_PREFIX.len() + key.len()).filter(|window| window.starts_with(&KEY_PREFIX));
    match (found.next(), found.next()) {
        (Some(only), None) if only.ends_with(key) => Ok(()),
        (Some(_), None) => bad("its key is another than the city's tls key"),
        (None, _) => bad("it holds no Ed25519 key"),
        (Some(_), Some(_)) => bad("it holds two Ed25519 keys"),
    }
}

/// The contents of a DER value with this tag, and what follows it. Lengths take one to three bytes and are the shortest form.
fn value(tag: u8, data: &[u8]) -> Option<(&[u8], &[u8])> {
    let (head, rest) = data.split_first_chunk::<2>()?;
    if head[0] != tag {
        return None;
    }
    let (length, rest) = match head[1] {
        short @ 0..=0x7f => (usize::from(short), rest),
        0x81 => rest.split_first().map(|(length, rest)| (usize::from(*length), rest)).filter(|(length, _)| *length > 0x7f)?,
        0x82 => {
            let (length, rest) = rest.split_first_chunk::<2>()?;
            Some((usize::from(u16::from_be_bytes(*length)), rest)).filter(|(length, _)| *length > 0xff)?
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 32] = [7; 32];

    fn der(tag: u8, contents: &[u8]) -> Vec<u8> {
        let mut out = vec![tag];
        match contents.len() {
            short @ 0..=0x7f => out.push(short as u8),
            middle @ 0x80..=0xff => out.extend([0x81, middle as u8]),
            long => out.extend([&[0x82][..], &(long as u16).to_be_bytes()].concat()),
        }
        [out, contents.to_vec()].concat()
    }

    fn with(key: &[u8], filling: usize) -> Vec<u8> {
        let body = [&vec![1; filling][..], &KEY_PREFIX, key].concat();
        der(SEQUENCE, &[der(SEQUENCE, &body), der(SEQUENCE, &[1]), der(BIT_STRING, &[0; 65])].concat())
    }

    #[test]
    fn a_certificate_holds_the_key_once_and_nothing_follows_it() {
        for filling in [0, 60, 200, 700] {
            assert_eq!(check(&with(&KEY, filling), &KEY), Ok(()));
        }
        let good = with(&KEY, 60);
        let refused = |certificate: &[u8], why: &str| {
            let error = check(certificate, &KEY).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(error.starts_with("bad_certificate") && error.contains(why), "{why}: {error}");
        };
        refused(&[], "not one DER");
        refused(&[&good[..], &[0]].concat(), "not one DER");
        for end in 0..good.len() {
            refused(&good[..end], "not one DER");
        }
        refused(&with(&[8; 32], 60), "another than");
        refused(&with(&[KEY.to_vec(), KEY_PREFIX.to_vec(), KEY.to_vec()].concat(), 0), "two Ed25519");
        refused(&der(SEQUENCE, &[der(SEQUENCE, &KEY), der(SEQUENCE, &[1]), der(BIT_STRING, &[0; 65])].concat()), "no Ed25519");
        refused(&der(SEQUENCE, &der(SEQUENCE, &KEY)), "a body, an algorithm");
        refused(&with(&KEY, 1_000), "longer");
        refused(&[&[0x30, 0x81, 5][..], &[0; 5]].concat(), "not one DER");
        refused(&[&[0x30, 0x80][..], &[0; 5]].concat(), "not one DER");
    }
}
