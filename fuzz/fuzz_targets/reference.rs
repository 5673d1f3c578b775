//! Any message is one item or several.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lakelens_fuzz::message(bytes));
