//! Any bytes are a file of torch, or say why not; what is read of them is no longer than they are.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lakelens_fuzz::torch_file(bytes));
