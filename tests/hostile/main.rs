//! A broker that lies: each answer in a consumer's life, changed at each of its bytes.
//!
//! The consumer is played against an honest cluster, and what the broker answers is recorded. Then it is played
//! once more for each change of each answer. It must survive, stay as small as it was, and deliver what is
//! produced afterwards, or say why not.
//!
//! A binary of its own, because it counts what its global allocator is asked for.
//!
//! Invariant: all answers but one are honest, so whatever goes wrong is that one's work.

mod allocator;
mod change;
mod scene;

use std::any::Any;
use std::collections::BTreeSet;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};

use kafka_protocol::messages::ApiKey;

use allocator::growth;
use change::{Change, changes};
use scene::{Outcome, Scene, scenes};

/// What a lie may cost in memory beyond what the same life takes without it: a fetch, and its body.
const GROWTH_MORE: usize = 16 << 20;

/// Of so many lies one is told, so that each byte has two or three; `FOREBAY_LIES=1` tells all.
const LIES_PER_PLAY: usize = 7;

fn scene(name: &str) -> Scene {
    let found = scenes().into_iter().find(|scene| scene.name == name);
    found.unwrap_or_else(|| panic!("there is no scene {name}"))
}

fn check(name: &str, apis: &[ApiKey]) {
    let scene = scene(name);
    let ((outcome, answers), honest) = growth(|| scene.play(|_, _| {}));
    assert_eq!(outcome, Outcome::Delivered, "without a lie");
    let heard: Vec<_> = answers.iter().filter_map(|answer| answer.api).collect();
    for api in apis {
        assert!(heard.contains(api), "{api:?} is not among {heard:?}");
    }
    let every = std::env::var("FOREBAY_LIES").map_or(Ok(LIES_PER_PLAY), |text| text.parse());
    let every = every.expect("FOREBAY_LIES is a number");
    let (mut seen, mut problems, mut played) = (BTreeSet::new(), Vec::new(), 0);
    for (at, answer) in answers.iter().enumerate() {
        // The same again, but for its correlation id, is no other lie.
        if !seen.insert(answer.bytes.get(4..).unwrap_or_default()) {
            continue;
        }
        for change in changes(answer.bytes.len()).skip(at % every).step_by(every) {
            played += 1;
            if let Some(problem) = lie(&scene, at, change, honest) {
                problems.push(format!("{:?}, {change:?}: {problem}", answer.api));
            }
        }
    }
    let line = format!("{name}: {played} lies in {} answers\n", seen.len());
    std::io::stderr().write_all(line.as_bytes()).ok();
    let shown = problems.iter().take(20).map(String::as_str);
    let shown = shown.collect::<Vec<_>>().join("\n");
    assert!(problems.is_empty(), "{} problems\n{shown}", problems.len());
}

/// Tells one; what was wrong with how it was taken.
fn lie(scene: &Scene, number: usize, change: Change, honest: usize) -> Option<String> {
    let play = || {
        scene.play(move |at, answer| {
            if at == number {
                change.apply(answer);
            }
        })
    };
    let (outcome, growth) = growth(|| catch_unwind(AssertUnwindSafe(play)));
    match outcome {
        Err(reason) => Some(format!("it panicked: {}", words(&*reason))),
        Ok((Outcome::Stuck(status), _)) => Some(format!("it stands still: {status}")),
        Ok(_) if growth > honest + GROWTH_MORE => Some(format!("it took {growth} bytes")),
        Ok(_) => None,
    }
}

/// What a panic said.
fn words(reason: &(dyn Any + Send)) -> &str {
    let text = reason.downcast_ref::<String>().map(String::as_str);
    let text = text.or(reason.downcast_ref::<&str>().copied());
    text.unwrap_or_default()
}

#[test]
fn lies_to_a_classic_member_are_survived() {
    check(
        "classic",
        &[
            ApiKey::ApiVersions,
            ApiKey::Metadata,
            ApiKey::FindCoordinator,
            ApiKey::JoinGroup,
            ApiKey::SyncGroup,
            ApiKey::Heartbeat,
            ApiKey::OffsetFetch,
            ApiKey::OffsetCommit,
            ApiKey::Fetch,
        ],
    );
}

#[test]
fn lies_of_an_old_broker_are_survived() {
    check("old", &[ApiKey::ListOffsets, ApiKey::Fetch]);
}

#[test]
fn lies_to_a_member_of_the_consumer_protocol_are_survived() {
    check("consumer", &[ApiKey::ConsumerGroupHeartbeat]);
}

#[test]
fn lies_of_a_broker_that_wants_a_password_are_survived() {
    check("plain", &[ApiKey::SaslHandshake, ApiKey::SaslAuthenticate]);
}

#[test]
fn lies_in_raw_frames_of_sasl_are_survived() {
    check("scram, raw", &[ApiKey::SaslHandshake]);
}
