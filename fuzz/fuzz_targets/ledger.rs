//! libFuzzer on [`mlxport_fuzz::targets::ledger`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mlxport_fuzz::targets::ledger::run(data));
