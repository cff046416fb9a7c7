//! Which responses are kept.
#![no_main]

#[path = "../../tests/input/check/mod.rs"]
#[allow(dead_code, reason = "each target uses some of the checks")]
mod check;

libfuzzer_sys::fuzz_target!(|text: &[u8]| {
    if let Some((status, fields)) = check::keep::parse(text) {
        check::keep::check(status, &fields);
    }
});
