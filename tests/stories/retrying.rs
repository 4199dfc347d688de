//! What a consumer tells of records whose calls fail.

use std::time::Duration;

use bytes::Bytes;
use forebay_protocol::delivery::{Budget, RetryStatus};
use forebay_protocol::lambda::invoke::{Execution, Outcome};
use forebay_protocol::limits;
use forebay_tests::story::{Story, consumer_config, succeeded};

fn retry(story: &Story, partition: i32) -> Option<RetryStatus> {
    let status = story.consumer(0).status();
    let mut partitions = status.partitions.into_iter();
    partitions.find(|it| it.partition == partition)?.retry
}

fn failed() -> Outcome {
    Outcome::FunctionError {
        kind: "Unhandled".to_owned(),
        body: Bytes::from_static(
            br#"{"errorType":"KeyError","errorMessage":"a record's own words"}"#,
        ),
        execution: Execution::default(),
    }
}

fn throttled() -> Outcome {
    Outcome::Throttled {
        retry_after: None,
        message: "429 TooManyRequestsException: Rate exceeded".to_owned(),
    }
}

#[test]
fn records_that_are_retried_are_told_with_their_offsets_and_the_last_error() {
    let mut story = Story::of_cluster(2, 1);
    story.hold_calls();
    story.join(consumer_config(), Budget::new(0));
    for value in ["a", "b"] {
        story.produce(0, value);
    }
    story.until("the first call", |story| story.open_calls.len() == 1);
    assert_eq!(retry(&story, 0), None, "nothing has failed yet");
    story.end_call(failed());
    let first = retry(&story, 0).expect("the call has failed");
    assert_eq!((first.offset, first.last_offset), (0, 1));
    assert_eq!((first.attempts, first.failed_calls), (1, 1));
    assert_eq!(&*first.error, "function failing: Unhandled: KeyError");
    let due = first.next_try.expect("it waits");
    assert!(due <= first.since + limits::FUNCTION_ERROR_BACKOFF);
    assert_eq!(retry(&story, 1), None, "the other partition is well");

    story.until("the second call", |story| story.open_calls.len() == 1);
    let open = retry(&story, 0).expect("it is not over");
    assert_eq!(open.next_try, None, "the call is open");
    story.end_call(throttled());
    let second = retry(&story, 0).expect("it has failed again");
    assert_eq!((second.attempts, second.failed_calls), (1, 2));
    assert_eq!(second.since, first.since);
    assert!(second.error.contains("Rate exceeded"), "{}", second.error);

    story.answer_calls(|_| succeeded());
    story.until("they are delivered", |story| story.committed(0) == Some(2));
    assert_eq!(retry(&story, 0), None);
    story.play(Duration::from_secs(1));
}

#[test]
fn a_joint_batch_tells_of_each_of_its_partitions_and_of_no_other() {
    let mut story = Story::of_cluster(3, 1);
    let mut config = consumer_config();
    config.delivery.window = Duration::from_secs(1);
    story.join(config, Budget::new(0));
    story.until("all are owned", |story| story.owned(0).len() == 3);
    story.answer_calls(|_| failed());
    story.produce(0, "a");
    story.produce(2, "b");
    story.until("a call has failed", |story| retry(story, 0).is_some());
    let told: Vec<_> = (0..3)
        .map(|it| retry(&story, it).map(|it| it.offset))
        .collect();
    assert_eq!(told, [Some(0), None, Some(0)]);
}
