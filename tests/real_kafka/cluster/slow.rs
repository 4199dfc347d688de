//! What only `tests/run cluster` has time for: with what every run has, each fault in each way.

use super::{CLASSIC, CONSUMER, SECURE, moving, nodes, topics};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_misbehave_by_the_consumer_protocol() {
    nodes::misbehave(CONSUMER).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_that_change_by_the_consumer_protocol() {
    topics::change(CONSUMER).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_misbehave_under_tls() {
    nodes::misbehave(SECURE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_that_change_under_tls() {
    topics::change(SECURE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rolling_restart_by_the_classic_protocol() {
    moving::restarts(CLASSIC).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn addresses_behind_a_name_by_the_classic_protocol() {
    moving::addresses(CLASSIC).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rolling_restart_by_the_consumer_protocol() {
    moving::restarts(CONSUMER).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn addresses_behind_a_name_by_the_consumer_protocol() {
    moving::addresses(CONSUMER).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rolling_restart_under_tls() {
    moving::restarts(SECURE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn addresses_behind_a_name_under_tls() {
    moving::addresses(SECURE).await;
}
