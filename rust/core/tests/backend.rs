//! The fast curve arithmetic must not get lost: a `RUSTFLAGS` variable silently replaces `.cargo/config.toml`, and then
//! curve25519-dalek falls back to AVX2, a quarter slower, without a word.
use cityid_core::signature::backend;

#[test]
#[cfg(target_arch = "x86_64")]
fn the_avx512_arithmetic_is_compiled_in() {
    let compiled_in = cfg!(curve25519_dalek_backend = "avx512");
    assert!(
        compiled_in,
        "built without --cfg curve25519_dalek_backend=\"avx512\"; unset RUSTFLAGS, or add the flag of .cargo/config.toml to it"
    );
}

#[test]
#[cfg(target_arch = "x86_64")]
fn the_backend_is_the_best_this_processor_has() {
    let best = if std::is_x86_feature_detected!("avx512ifma") && std::is_x86_feature_detected!("avx512vl") {
        "avx512ifma"
    } else if std::is_x86_feature_detected!("avx2") {
        "avx2"
    } else {
        "serial"
    };
    println!("backend {}", backend());
    assert_eq!(backend(), best);
}

#[test]
#[cfg(not(target_arch = "x86_64"))]
fn the_backend_is_serial() {
    println!("backend {}", backend());
    assert_eq!(backend(), "serial");
}
