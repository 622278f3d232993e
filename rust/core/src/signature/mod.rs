//! Ed25519 verification under the rules of ZIP-215, one signature at a time or in batches.
//!
//! A signature (R, s) of a message M under a key A is valid exactly when
//! 1. A and R decode to points of the curve; encodings that are not canonical are accepted;
//! 2. s, read as a little-endian integer, is below the group order l;
//! 3. `[8][s]B = [8]R + [8][k]A`, where k = SHA-512(R ‖ A ‖ M) mod l over the bytes as sent.
//!
//! RFC 8032 leaves the first and the last point open, and libraries differ there; some change their answer with the
//! signatures that happen to share a batch. Nodes that differ would fork, so every verdict in cityid follows these three
//! rules: [`verify`] and [`Verifier::verify_batch`] agree on every input (a batch errs with a probability below 2⁻¹¹⁰).
//! [`verify_strict`] is for one purpose only: to leave out cosignatures that other people's verifiers refuse.
//!
//! Pure: no I/O, no clock, no source of randomness; the caller of a batch brings the seed. Signing is not here.
//!
//! Sources: ZIP 215 <https://zips.z.cash/zip-0215>; RFC 8032 section 5.1; H. de Valence, "It's 255:19AM. Do you know what
//! your validation criteria are?" (2020).
mod batch;
mod cache;

pub use batch::{Item, Verifier};

use crate::error::Error;
use curve25519_dalek::edwards::{CompressedEdwardsY, EdwardsPoint};
use curve25519_dalek::scalar::Scalar;
use sha2::{Digest, Sha512};

/// Verifies one signature under the rules of ZIP-215.
///
/// # Errors
/// [`Error::Signature`] with position 0 when the key or R is not a point, s is out of range, or the equation fails.
pub fn verify(key: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> Result<(), Error> {
    let valid = || {
        let claim = Claim::parse(key, message, signature)?;
        Some(claim.holds(&decompress(key)?))
    };
    accept(valid().unwrap_or(false))
}

/// Verifies one signature as the strictest common verifiers do, on top of the rules of ZIP-215: the equation must hold
/// without the cofactor, A and R must be canonical, and neither may be of small order.
///
/// Go refuses a whole C2SP note when one signature of a known key fails its check without cofactor, so cosignatures pass
/// through here before a note is published. No consensus decision may depend on this function.
///
/// # Errors
/// [`Error::Signature`] with position 0.
pub fn verify_strict(key: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> Result<(), Error> {
    let valid = || {
        let claim = Claim::parse(key, message, signature)?;
        let public = decompress(key)?;
        let small_order = public.is_small_order() || claim.r.is_small_order();
        // Comparing encodings, as Go does, also demands that R is canonical.
        let holds = claim.expected_r(&public).compress().to_bytes() == r_bytes(signature);
        Some(is_canonical(&public, key) && !small_order && holds)
    };
    accept(valid().unwrap_or(false))
}

/// Says whether a key may enter a record: a canonical encoding of a point that is not of small order.
///
/// Two encodings of one key would be two keys to everything that compares bytes, and under a key of small order anyone can
/// sign. Verification accepts both, because it must agree on every input; registration is where they are kept out.
///
/// # Errors
/// [`Error::Rule`] with the reason `key_not_a_point`, `key_not_canonical` or `key_small_order`.
pub fn is_acceptable_for_registration(key: &[u8; 32]) -> Result<(), Error> {
    let Some(public) = decompress(key) else {
        return Err(Error::rule(
            "key_not_a_point",
            "the 32 bytes are not a point of Curve25519; send the public half of an Ed25519 key pair",
        ));
    };
    if !is_canonical(&public, key) {
        return Err(Error::rule(
            "key_not_canonical",
            "the key is not in its canonical encoding, so it would have two names; send it as RFC 8032 section 5.1.2 encodes it",
        ));
    }
    if public.is_small_order() {
        return Err(Error::rule(
            "key_small_order",
            "the key is a point of small order, under which anyone can sign; generate a new key pair",
        ));
    }
    Ok(())
}

/// The curve arithmetic that runs on this machine: `"avx512ifma"`, `"avx2"` or `"serial"`.
///
/// Mirrors the choice of curve25519-dalek: what was compiled in, then what the processor has. Benches refuse to run, and a
/// test fails, when the fast arithmetic was lost on the way.
#[allow(unexpected_cfgs)] // "serial" and "fiat" are dalek's own overrides; nothing here sets them
pub fn backend() -> &'static str {
    #[cfg(all(target_arch = "x86_64", not(curve25519_dalek_backend = "serial"), not(curve25519_dalek_backend = "fiat")))]
    {
        let compiled_in = cfg!(any(curve25519_dalek_backend = "avx512", all(target_feature = "avx512ifma", target_feature = "avx512vl")));
        if compiled_in && std::is_x86_feature_detected!("avx512ifma") && std::is_x86_feature_detected!("avx512vl") {
            return "avx512ifma";
        }
        if std::is_x86_feature_detected!("avx2") {
            return "avx2";
        }
    }
    "serial"
}

fn accept(valid: bool) -> Result<(), Error> {
    if valid {
        Ok(())
    } else {
        Err(Error::Signature(vec![0]))
    }
}

/// Rule 1. The field element is taken modulo p and the sign of zero is ignored, as ZIP-215 wants.
fn decompress(encoding: &[u8; 32]) -> Option<EdwardsPoint> {
    CompressedEdwardsY(*encoding).decompress()
}

fn is_canonical(point: &EdwardsPoint, encoding: &[u8; 32]) -> bool {
    point.compress().as_bytes() == encoding
}

fn r_bytes(signature: &[u8; 64]) -> [u8; 32] {
    std::array::from_fn(|index| signature[index])
}

/// One signature, parsed: rules 1 (for R) and 2 are checked, only the equation is open.
struct Claim {
    r: EdwardsPoint,
    s: Scalar,
    /// k, the hash of R, key and message.
    challenge: Scalar,
}

impl Claim {
    fn parse(key: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> Option<Claim> {
        let s_bytes: [u8; 32] = std::array::from_fn(|index| signature[32 + index]);
        let s = Option::<Scalar>::from(Scalar::from_canonical_bytes(s_bytes))?;
        let r_bytes = r_bytes(signature);
        let r = decompress(&r_bytes)?;
        let hash: [u8; 64] = Sha512::new().chain_update(r_bytes).chain_update(key).chain_update(message).finalize().into();
        Some(Claim { r, s, challenge: Scalar::from_bytes_mod_order_wide(&hash) })
    }

    /// `[s]B - [k]A`, which is R when the signature was made by the rules.
    fn expected_r(&self, public: &EdwardsPoint) -> EdwardsPoint {
        EdwardsPoint::vartime_double_scalar_mul_basepoint(&self.challenge, &-public, &self.s)
    }

    /// Rule 3: `[8](R - [s]B + [k]A)` is the identity.
    fn holds(&self, public: &EdwardsPoint) -> bool {
        (self.r - self.expected_r(public)).is_small_order()
    }
}
