//! Any bytes are a picture, or have one of the reasons that bytes may have.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lakelens_fuzz::picture(bytes));
