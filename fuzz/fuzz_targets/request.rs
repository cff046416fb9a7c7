//! A whole request through the layer.
#![no_main]

#[path = "../../tests/input/check/mod.rs"]
#[allow(dead_code, reason = "each target uses some of the checks")]
mod check;

libfuzzer_sys::fuzz_target!(|text: &[u8]| {
    if let Some(input) = check::input::parse(text) {
        check::request::check(&input);
    }
});
