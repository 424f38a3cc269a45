#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| wirerate_engine_fuzz::imix::check(input));
