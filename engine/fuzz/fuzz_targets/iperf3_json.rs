#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| wirerate_engine_fuzz::iperf3_json::check(input));
