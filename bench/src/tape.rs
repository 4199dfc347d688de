//! What it costs at least to parse a value: simd-json's tape of it.

use std::hint::black_box;

/// simd-json with all that it reuses.
pub(crate) struct Tape {
    copy: Vec<u8>,
    buffers: simd_json::Buffers,
}

impl Default for Tape {
    fn default() -> Self {
        Self {
            copy: Vec::new(),
            buffers: simd_json::Buffers::new(16 * 1024),
        }
    }
}

impl Tape {
    /// The tape of a value, which is copied first: simd-json writes where it reads.
    pub(crate) fn of(&mut self, value: &[u8]) -> Result<(), String> {
        self.copy.clear();
        self.copy.extend_from_slice(black_box(value));
        let tape = simd_json::to_tape_with_buffers(&mut self.copy, &mut self.buffers);
        let tape = tape.map_err(|error| error.to_string())?;
        black_box(tape.0.len());
        Ok(())
    }
}
