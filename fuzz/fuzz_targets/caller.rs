//! The caller digest.
#![no_main]

#[path = "../../tests/input/check/mod.rs"]
#[allow(dead_code, reason = "each target uses some of the checks")]
mod check;

libfuzzer_sys::fuzz_target!(|text: &[u8]| {
    let (one, other) = check::caller::parse(text);
    check::caller::check(&one, &other);
});
