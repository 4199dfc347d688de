//! Any text as a secret: the first byte says whether it is a document, certificates or a key.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| forebay::fuzzing::secret(input));
