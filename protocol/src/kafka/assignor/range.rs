//! `range`: of each topic, every subscriber gets a run of consecutive partitions.
//!
//! Source: Java's RangeAssignor, without its rack awareness: static members come first, by instance id,
//! then the others by member id; the first ones get one partition more when it does not come out even.

use std::collections::BTreeMap;

use super::{Member, Share};

/// Everybody's share, in the order of `members`.
pub(super) fn assign(members: &[Member], counts: &BTreeMap<String, i32>) -> Vec<Share> {
    let mut shares = vec![Share::new(); members.len()];
    for (topic, count) in counts {
        let mut subscribers: Vec<usize> = (0..members.len())
            .filter(|at| members[*at].subscribes_to(topic))
            .collect();
        subscribers.sort_by_key(|at| rank(&members[*at]));
        let sizes = sizes(*count, subscribers.len());
        let mut next = 0;
        for (at, size) in subscribers.into_iter().zip(sizes) {
            if size > 0 {
                shares[at].insert(topic.clone(), (next..next + size).collect());
            }
            next += size;
        }
    }
    shares
}

/// Static members first.
fn rank(member: &Member) -> (bool, &str) {
    match &member.instance_id {
        Some(instance) => (false, instance),
        None => (true, &member.id),
    }
}

/// How many partitions each of so many subscribers gets.
fn sizes(count: i32, subscribers: usize) -> Vec<i32> {
    let Ok(among @ 1..) = i32::try_from(subscribers) else {
        return Vec::new();
    };
    let count = count.max(0);
    let extra = count % among;
    (0..among)
        .map(|at| count / among + i32::from(at < extra))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::Subscription;
    use super::*;

    fn member(id: &str, instance: Option<&str>, topics: &[&str]) -> Member {
        Member {
            id: id.to_owned(),
            instance_id: instance.map(str::to_owned),
            subscription: Subscription {
                topics: topics.iter().map(ToString::to_string).collect(),
                ..Subscription::default()
            },
        }
    }

    fn check(members: &[Member], counts: &[(&str, i32)], expected: &[&[(&str, &[i32])]]) {
        let counts = counts.iter().map(|(t, n)| ((*t).to_owned(), *n)).collect();
        let expected: Vec<Share> = expected
            .iter()
            .map(|share| {
                let entry =
                    |(t, p): &(&str, &[i32])| ((*t).to_owned(), p.iter().copied().collect());
                share.iter().map(entry).collect()
            })
            .collect();
        assert_eq!(assign(members, &counts), expected);
    }

    #[test]
    fn first_members_get_the_remainder() {
        let members = [
            member("a", None, &["t", "u"]),
            member("b", None, &["t", "u"]),
        ];
        check(
            &members,
            &[("t", 3), ("u", 3)],
            &[
                &[("t", &[0, 1]), ("u", &[0, 1])],
                &[("t", &[2]), ("u", &[2])],
            ],
        );
    }

    #[test]
    fn only_subscribers_share_a_topic() {
        let members = [
            member("a", None, &["t"]),
            member("b", None, &["t", "u"]),
            member("c", None, &["missing"]),
        ];
        check(
            &members,
            &[("t", 3), ("u", 2)],
            &[&[("t", &[0, 1])], &[("t", &[2]), ("u", &[0, 1])], &[]],
        );
    }

    #[test]
    fn more_members_than_partitions_leave_some_idle() {
        let members = [member("a", None, &["t"]), member("b", None, &["t"])];
        check(&members, &[("t", 1)], &[&[("t", &[0])], &[]]);
    }

    #[test]
    fn static_members_come_first_by_instance_id() {
        let members = [
            member("a", None, &["t"]),
            member("b", Some("z"), &["t"]),
            member("c", Some("y"), &["t"]),
        ];
        check(
            &members,
            &[("t", 3)],
            &[&[("t", &[2])], &[("t", &[1])], &[("t", &[0])]],
        );
    }
}
