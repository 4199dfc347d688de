//! Little memory, and lanes that stand still.

use std::time::Duration;

use bytes::Bytes;
use forebay_protocol::delivery::{Budget, Input};
use forebay_protocol::lambda::invoke::Outcome;
use forebay_tests::fake_kafka::batch::NewRecord;
use forebay_tests::story::{Story, TOPIC, consumer_config, succeeded};

#[test]
fn lanes_halted_by_what_they_hold_leave_memory_to_the_others() {
    let mut story = Story::of_cluster(4, 1);
    story.answer_calls(|call| {
        if call
            .records
            .iter()
            .any(|record| record.partition < 3 && record.offset == 0)
        {
            let message = "Request must be smaller".to_owned();
            return Outcome::TooLarge { message };
        }
        succeeded()
    });
    // Three partitions stand before a record that the endpoint refuses, with as large a one behind it.
    let large = NewRecord::value(Bytes::from(vec![b'x'; 3_000_000]));
    for partition in 0..3 {
        for _ in 0..2 {
            story
                .kafka
                .append(TOPIC, partition, std::slice::from_ref(&large));
        }
    }
    story.join(consumer_config(), Budget::new(0));
    story.until("three lanes are halted", |story| {
        let status = story.consumer(0).status();
        status
            .partitions
            .iter()
            .filter(|p| p.halted.is_some())
            .count()
            == 3
    });
    for at in 0..5 {
        let body = vec![b'0' + at; 2_000_000];
        story
            .kafka
            .append(TOPIC, 3, &[NewRecord::value(Bytes::from(body))]);
    }
    story.until("the fourth goes on", |story| story.committed(3) == Some(5));
    assert!(story.delivered.iter().all(|record| record.partition == 3));
    // Once the endpoint takes them, so do they, in order.
    story.answer_calls(|_| succeeded());
    story.until("all is delivered", |story| {
        (0..3).all(|partition| story.committed(partition) == Some(2))
    });
    story.play(Duration::from_secs(1));
    for partition in 0..3 {
        let offsets = story.delivered.iter().filter(|r| r.partition == partition);
        let offsets: Vec<i64> = offsets.map(|record| record.offset).collect();
        assert_eq!(offsets, [0, 1]);
    }
}

#[test]
fn consumers_of_one_budget_share_it_and_give_it_back() {
    const SHARED: usize = 8 << 20;
    let budget = Budget::new(SHARED);
    let mut story = Story::of_cluster(8, 1);
    story.answer_calls(|_| succeeded());
    for member in 0..2 {
        story.join(consumer_config(), budget.clone());
        story.until("it has its part", |story| !story.owned(member).is_empty());
    }
    story.until("each has half", |story| {
        (0..2).all(|member| story.owned(member).len() == 4)
    });
    // Far more than they may hold: what one of them keeps for its next bodies, the other takes.
    let record = NewRecord::value(Bytes::from(vec![b'x'; 1_500_000]));
    for _ in 0..6 {
        for partition in 0..8 {
            let batch = std::slice::from_ref(&record);
            story.kafka.append(TOPIC, partition, batch);
        }
    }
    story.until("all is delivered", |story| {
        (0..8).all(|partition| story.committed(partition) == Some(6))
    });
    assert_eq!(story.delivered.len(), 8 * 6);
    // A long poll holds what it has reserved until its consumer ends.
    for member in 0..2 {
        story.tell(member, Input::Stop);
        story.until("it has ended", |story| story.has_ended(member));
    }
    assert_eq!(budget.available(), SHARED);
}
