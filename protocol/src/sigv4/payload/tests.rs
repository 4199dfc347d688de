//! Against ring's SHA-256 of the whole body.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn noise(len: usize) -> Bytes {
    (0..len)
        .map(|at| ((at * 167) >> 3).to_le_bytes()[0])
        .collect()
}

fn cut(body: &Bytes, cuts: &[usize]) -> Vec<Bytes> {
    let mut edges: Vec<_> = cuts.iter().map(|cut| cut % (body.len() + 1)).collect();
    edges.extend([0, body.len()]);
    edges.sort_unstable();
    let pieces = edges.windows(2);
    pieces.map(|edge| body.slice(edge[0]..edge[1])).collect()
}

/// In steps of `budget` bytes, each of which does as much, but for what is behind the last whole block.
#[track_caller]
fn check(pieces: Vec<Bytes>, budget: usize) {
    let body = pieces.concat();
    let mut hash = PayloadHash::new(pieces);
    let mut steps = 0;
    while !hash.is_done() {
        let mut rest = budget;
        hash.step(&mut rest);
        assert!(rest == 0 || hash.is_done());
        steps += 1;
    }
    assert!(steps <= body.len().div_ceil(budget), "{steps}");
    assert_eq!(hash.finish(), PayloadDigest::of(&body));
}

/// Both beside each other, in steps of `budget` bytes; what is left of the longer one is hashed alone.
#[track_caller]
fn check_two(left: Vec<Bytes>, right: Vec<Bytes>, budget: usize) {
    let bodies = [left.concat(), right.concat()];
    let (mut left, mut right) = (PayloadHash::new(left), PayloadHash::new(right));
    while !left.is_done() && !right.is_done() {
        let mut rest = budget;
        PayloadHash::step_two(&mut left, &mut right, &mut rest);
        assert!(rest < budget, "a step gets on");
    }
    let expected = bodies.map(|body| PayloadDigest::of(&body));
    assert_eq!([left.finish(), right.finish()], expected);
}

#[test]
fn every_short_length_has_its_padding() {
    let body = noise(260);
    for len in 0..=body.len() {
        check(vec![body.slice(..len)], usize::MAX);
        check_two(vec![body.slice(..len)], vec![body.slice(len..)], usize::MAX);
    }
}

#[test]
fn a_long_body_is_hashed_in_steps() {
    let pieces = vec![noise(99_999), noise(2), Bytes::new(), noise(200_000)];
    let mut hash = PayloadHash::new(pieces.clone());
    let mut steps = 0;
    while !hash.is_done() {
        hash.step(&mut 100_000);
        steps += 1;
    }
    assert!((3..=4).contains(&steps), "a step may end a block late");
    assert_eq!(hash.finish(), PayloadDigest::of(&pieces.concat()));
}

#[test]
fn a_step_of_two_ends_with_the_shorter_one() {
    let (short, long) = (noise(1_000), noise(1_000_000));
    let mut left = PayloadHash::new(vec![long.clone()]);
    let mut right = PayloadHash::new(vec![short]);
    let mut budget = 900_000;
    PayloadHash::step_two(&mut left, &mut right, &mut budget);
    assert!(right.is_done() && !left.is_done());
    assert!(budget > 890_000 || !left.has_company_for_free());
    assert_eq!(left.finish(), PayloadDigest::of(&long));
}

proptest! {
    #[test]
    fn any_cut_of_a_body_has_the_same_hash(
        body in vec(any::<u8>(), 0..2_000),
        cuts in vec(any::<usize>(), 0..9),
        budget in 1..3_000_usize,
    ) {
        check(cut(&Bytes::from(body), &cuts), budget);
    }

    #[test]
    fn any_two_bodies_beside_each_other_have_their_hashes(
        left in vec(any::<u8>(), 0..2_000),
        right in vec(any::<u8>(), 0..2_000),
        cuts in vec(any::<usize>(), 0..9),
        budget in 1..3_000_usize,
    ) {
        check_two(cut(&Bytes::from(left), &cuts), cut(&Bytes::from(right), &cuts), budget);
    }
}
