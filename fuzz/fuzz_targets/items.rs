#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| camrelay_protocol::fuzzing::items(data));
