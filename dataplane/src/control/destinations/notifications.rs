//! Topics of Amazon SNS.
//!
//! Source: Amazon SNS API Reference, "Publish" and "GetTopicAttributes" (the query protocol).
//!
//! Invariant: a message is the document and nothing else: no subject, no attributes.

use forebay_protocol::lambda::function::percent_encode;

use super::{Action, Refused, Way};
use crate::config::Service;
use crate::control::http::Answer;
use crate::mapping::Notifications;

/// A message has no more bytes than this.
pub(super) const MESSAGE_BYTES_MAX: usize = 262_144;

const VERSION: &str = "2010-03-31";
const HEADERS: [(&str, &str); 1] = [("content-type", "application/x-www-form-urlencoded")];

/// Publishes a message.
pub(super) async fn publish(
    way: Way<'_>,
    topic: &Notifications,
    text: &str,
) -> Result<(), Refused> {
    let answer = ask(way, topic, "Publish", &[("Message", text)]).await?;
    match (answer.status, answer.element("MessageId")) {
        (200, Some(_)) => Ok(()),
        (200, None) => Err(Refused::stranger(Service::Sns, "Publish")),
        _ => Err(Refused::of(Action::writing(Service::Sns), &answer, way)),
    }
}

/// Asks for what the topic is like.
pub(super) async fn attributes(
    way: Way<'_>,
    topic: &Notifications,
) -> Result<(Service, Answer), Refused> {
    let answer = ask(way, topic, "GetTopicAttributes", &[]).await?;
    Ok((Service::Sns, answer))
}

async fn ask(
    way: Way<'_>,
    topic: &Notifications,
    action: &str,
    more: &[(&str, &str)],
) -> Result<Answer, Refused> {
    let mut form = format!("Action={action}&Version={VERSION}");
    for (name, value) in [("TopicArn", topic.arn.as_str())].iter().chain(more) {
        form.extend(["&", name, "="]);
        percent_encode(value, &mut form);
    }
    way.post(Service::Sns, &topic.region, &HEADERS, form).await
}
