//! What follows a JPEG's first marker, so that nothing is spent on finding out that a file should begin with it.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lakelens_fuzz::picture(&[&[0xFF, 0xD8, 0xFF], bytes].concat()));
