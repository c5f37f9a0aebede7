//! libFuzzer on [`mlxport_fuzz::targets::grounding`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mlxport_fuzz::targets::grounding::run(data));
