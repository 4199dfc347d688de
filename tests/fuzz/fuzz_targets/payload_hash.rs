//! Two bodies, each in pieces, hashed beside each other in steps, against plain SHA-256. The first byte says
//! where the input is cut in two, the square of the second how long a piece is, that of the third how long a
//! step: from a byte to more than the kernels take at a time.
#![no_main]

use bytes::Bytes;
use forebay_protocol::sigv4::{PayloadDigest, PayloadHash};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let [cut, piece, step, bodies @ ..] = input else {
        return;
    };
    let bodies = bodies.split_at(bodies.len() * usize::from(*cut) / 255);
    let [mut left, mut right] = [bodies.0, bodies.1].map(|body| {
        let pieces = body.chunks(square(*piece));
        PayloadHash::new(pieces.map(Bytes::copy_from_slice).collect())
    });
    while !left.is_done() && !right.is_done() {
        let mut budget = square(*step);
        PayloadHash::step_two(&mut left, &mut right, &mut budget);
    }
    assert_eq!(left.finish(), PayloadDigest::of(bodies.0));
    assert_eq!(right.finish(), PayloadDigest::of(bodies.1));
});

/// Not zero.
fn square(byte: u8) -> usize {
    usize::from(byte).pow(2).max(1)
}
