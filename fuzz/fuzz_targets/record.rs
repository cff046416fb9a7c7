//! The flat form of a record.
#![no_main]

#[path = "../../tests/input/check/mod.rs"]
#[allow(dead_code, reason = "each target uses some of the checks")]
mod check;

libfuzzer_sys::fuzz_target!(|text: &[u8]| {
    check::record::check_bytes(text);
});
