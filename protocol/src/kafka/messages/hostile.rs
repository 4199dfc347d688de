//! What a broken or hostile broker may send: every decoder gives a value or an error, and holds no more
//! than a small multiple of what arrived.

use std::ops::RangeInclusive;

use bytes::Bytes;
use proptest::prelude::*;
use proptest::strategy::{BoxedStrategy, ValueTree};
use proptest::test_runner::TestRunner;

use super::testing::{asked, versions};
use super::{
    ApiKey, Response, api_versions, consumer_group_describe, consumer_group_heartbeat,
    describe_groups, fetch, find_coordinator, heartbeat, init_producer_id, join_group, leave_group,
    list_offsets, metadata, offset_commit, offset_fetch, offset_for_leader_epoch, produce,
    sasl_authenticate, sasl_handshake, sync_group,
};
use crate::kafka::wire::DecodeError;

/// Valid answers of one API in one version, as `kafka-protocol` writes them.
fn answers(api: ApiKey, version: i16) -> BoxedStrategy<Bytes> {
    match api {
        ApiKey::Fetch => fetch::tests::answers(version),
        ApiKey::ListOffsets => list_offsets::tests::answers(version),
        ApiKey::Metadata => metadata::tests::answers(version),
        ApiKey::OffsetCommit => offset_commit::tests::answers(version),
        ApiKey::OffsetFetch => offset_fetch::tests::answers(version),
        ApiKey::FindCoordinator => find_coordinator::tests::answers(version),
        ApiKey::JoinGroup => join_group::tests::answers(version),
        ApiKey::Heartbeat => heartbeat::tests::answers(version),
        ApiKey::LeaveGroup => leave_group::tests::answers(version),
        ApiKey::SyncGroup => sync_group::tests::answers(version),
        ApiKey::ApiVersions => api_versions::tests::answers(version),
        ApiKey::OffsetForLeaderEpoch => offset_for_leader_epoch::tests::answers(version),
        ApiKey::ConsumerGroupHeartbeat => consumer_group_heartbeat::tests::answers(version),
        ApiKey::SaslHandshake => sasl_handshake::tests::answers(version),
        ApiKey::SaslAuthenticate => sasl_authenticate::tests::answers(version),
        ApiKey::Produce => produce::tests::answers(version),
        ApiKey::InitProducerId => init_producer_id::tests::answers(version),
        ApiKey::DescribeGroups => describe_groups::tests::answers(version),
        ApiKey::ConsumerGroupDescribe => consumer_group_describe::tests::answers(version),
    }
}

/// Every API in every version that we speak.
fn spoken() -> impl Iterator<Item = (ApiKey, i16)> {
    let all = |api: ApiKey| -> RangeInclusive<i16> { versions(api) };
    ApiKey::ALL
        .into_iter()
        .flat_map(move |api| all(api).map(move |version| (api, version)))
}

fn decode(api: ApiKey, version: i16, bytes: impl Into<Bytes>) -> Result<Response, DecodeError> {
    Response::decode(&asked(api, version), bytes.into())
}

/// Calls `check` with some valid answers of each API and version.
fn for_samples(count: usize, mut check: impl FnMut(ApiKey, i16, &Bytes)) {
    let mut runner = TestRunner::deterministic();
    for (api, version) in spoken() {
        for _ in 0..count {
            let sample = answers(api, version).new_tree(&mut runner).unwrap();
            check(api, version, &sample.current());
        }
    }
}

#[test]
fn every_truncation_is_an_error() {
    for_samples(4, |api, version, sample| {
        decode(api, version, sample.clone()).unwrap();
        for end in 0..sample.len() {
            let cut = decode(api, version, sample.slice(..end));
            assert!(
                cut.is_err(),
                "{api} version {version} cut at {end} of {}",
                sample.len()
            );
        }
    });
}

#[test]
fn trailing_bytes_are_an_error() {
    for_samples(4, |api, version, sample| {
        let longer = [&sample[..], &[0]].concat();
        let read = decode(api, version, longer);
        assert!(
            matches!(read, Err(DecodeError::Trailing { .. })),
            "{api} version {version}"
        );
    });
}

#[test]
fn huge_counts_and_lengths_anywhere_are_survived() {
    let hostile: [&[u8]; 8] = [
        &[0x7f, 0xff, 0xff, 0xff],
        &[0xff, 0xff, 0xff, 0xff],
        &[0x80, 0, 0, 0],
        &[0x7f, 0xff],
        &[0x80, 0],
        &[0xff, 0xff, 0xff, 0xff, 0x0f],
        &[0xff, 0xff, 0xff, 0xff, 0x07],
        &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
    ];
    for_samples(2, |api, version, sample| {
        for at in 0..sample.len() {
            for bytes in hostile {
                let written_over = sample.iter().copied().skip(at + bytes.len());
                let mut frame = sample[..at].to_vec();
                frame.extend_from_slice(bytes);
                frame.extend(written_over);
                // A value or an error, never a panic; the reserve is asserted in `Reader`.
                drop(decode(api, version, frame));
            }
        }
    });
}

#[test]
fn nothing_but_huge_counts_is_an_error() {
    for (api, version) in spoken() {
        for byte in [0x7f_u8, 0xff] {
            for length in [0, 1, 4, 64, 4096] {
                let mut frame = vec![byte; length];
                if api == ApiKey::ApiVersions {
                    // Or it would be a refusal in version 0.
                    frame.splice(0..0, [0, 0]);
                }
                assert!(
                    decode(api, version, frame).is_err(),
                    "{api} version {version}"
                );
            }
        }
    }
}

/// A fuzzer hardly finds the way from one version's layout to another's, so it starts from all of them.
#[test]
fn every_version_has_a_seed_for_the_fuzzer() {
    let folder = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../tests/fuzz/seeds/kafka_response"
    );
    for (at, api) in (0_u8..).zip(ApiKey::ALL) {
        for (above, version) in (0_u8..).zip(versions(api)) {
            let file = format!("{folder}/{api}-{version}");
            let seed = std::fs::read(&file).expect(&file);
            assert_eq!(seed[..2], [at, above], "{file} picks another version");
            decode(api, version, seed[2..].to_vec()).expect(&file);
        }
    }
}

/// One change to a frame.
#[derive(Clone, Debug)]
enum Change {
    Set(usize, u8),
    Insert(usize, u8),
    Remove(usize),
    Cut(usize),
}

fn any_change() -> impl Strategy<Value = Change> {
    prop_oneof![
        4 => any::<(usize, u8)>().prop_map(|(at, byte)| Change::Set(at, byte)),
        1 => any::<(usize, u8)>().prop_map(|(at, byte)| Change::Insert(at, byte)),
        1 => any::<usize>().prop_map(Change::Remove),
        1 => any::<usize>().prop_map(Change::Cut),
    ]
}

fn apply(frame: &mut Vec<u8>, change: &Change) {
    let within = |at: usize, frame: &Vec<u8>| at % (frame.len() + 1);
    match *change {
        Change::Set(at, byte) => {
            let at = within(at, frame);
            if let Some(slot) = frame.get_mut(at) {
                *slot = byte;
            }
        }
        Change::Insert(at, byte) => frame.insert(within(at, frame), byte),
        Change::Remove(at) => {
            let at = within(at, frame);
            if at < frame.len() {
                frame.remove(at);
            }
        }
        Change::Cut(at) => frame.truncate(within(at, frame)),
    }
}

fn any_sample() -> impl Strategy<Value = (ApiKey, i16, Bytes)> {
    let spoken: Vec<_> = spoken().collect();
    proptest::sample::select(spoken).prop_flat_map(|(api, version)| {
        answers(api, version).prop_map(move |bytes| (api, version, bytes))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn changed_answers_are_survived(
        (api, version, sample) in any_sample(),
        changes in proptest::collection::vec(any_change(), 1..8),
    ) {
        let mut frame = sample.to_vec();
        for change in &changes {
            apply(&mut frame, change);
        }
        drop(decode(api, version, frame));
    }

    #[test]
    fn noise_is_survived(
        (api, version) in proptest::sample::select(spoken().collect::<Vec<_>>()),
        frame in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        drop(decode(api, version, frame));
    }
}
