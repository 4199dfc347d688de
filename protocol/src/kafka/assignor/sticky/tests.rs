use proptest::prelude::*;

use super::*;
use crate::kafka::assignor::{Subscription, TopicPartitions};

fn member(id: &str, topics: &[&str], generation: i32, owned: &[(&str, &[i32])]) -> Member {
    let owned = owned.iter().map(|(topic, partitions)| TopicPartitions {
        topic: (*topic).to_owned(),
        partitions: partitions.to_vec(),
    });
    Member {
        id: id.to_owned(),
        instance_id: None,
        subscription: Subscription {
            topics: topics.iter().map(ToString::to_string).collect(),
            owned: owned.collect(),
            generation: Some(generation),
            ..Subscription::default()
        },
    }
}

fn counts(counts: &[(&str, i32)]) -> BTreeMap<String, i32> {
    counts.iter().map(|(t, n)| ((*t).to_owned(), *n)).collect()
}

fn check(members: &[Member], topics: &[(&str, i32)], expected: &[&[(&str, &[i32])]]) {
    let shares: Vec<Vec<(String, Vec<i32>)>> = assign(members, &counts(topics))
        .into_iter()
        .map(|share| {
            let held = share.into_iter().filter(|(_, p)| !p.is_empty());
            held.map(|(t, p)| (t, p.into_iter().collect())).collect()
        })
        .collect();
    let expected: Vec<Vec<(String, Vec<i32>)>> = expected
        .iter()
        .map(|share| {
            share
                .iter()
                .map(|(t, p)| ((*t).to_owned(), p.to_vec()))
                .collect()
        })
        .collect();
    assert_eq!(shares, expected);
}

#[test]
fn a_new_group_is_dealt_evenly() {
    let members = [member("a", &["t"], -1, &[]), member("b", &["t"], -1, &[])];
    check(
        &members,
        &[("t", 5)],
        &[&[("t", &[0, 2, 4])], &[("t", &[1, 3])]],
    );
}

#[test]
fn what_moves_is_withheld_until_it_was_given_up() {
    let owner = member("a", &["t"], 4, &[("t", &[0, 1, 2, 3])]);
    let newcomer = member("b", &["t"], -1, &[]);
    check(&[owner, newcomer], &[("t", 4)], &[&[("t", &[0, 1])], &[]]);

    let owner = member("a", &["t"], 5, &[("t", &[0, 1])]);
    let newcomer = member("b", &["t"], 5, &[]);
    check(
        &[owner, newcomer],
        &[("t", 4)],
        &[&[("t", &[0, 1])], &[("t", &[2, 3])]],
    );
}

#[test]
fn a_leaver_leaves_its_share_and_nothing_else_moves() {
    let members = [
        member("a", &["t"], 4, &[("t", &[1, 4])]),
        member("b", &["t"], 4, &[("t", &[0, 5])]),
    ];
    check(
        &members,
        &[("t", 6)],
        &[&[("t", &[1, 2, 4])], &[("t", &[0, 3, 5])]],
    );
}

#[test]
fn an_outdated_claim_loses() {
    let members = [
        member("a", &["t"], 3, &[("t", &[0, 1])]),
        member("b", &["t"], 7, &[("t", &[0, 1])]),
    ];
    // One of them moves to `a`, which says that it still holds it: that is withheld as well.
    check(&members, &[("t", 2)], &[&[], &[("t", &[0])]]);
}

#[test]
fn an_outdated_claim_that_nobody_disputes_stands() {
    let members = [
        member("a", &["t"], 3, &[("t", &[1])]),
        member("b", &["t"], 7, &[("t", &[0])]),
    ];
    check(&members, &[("t", 2)], &[&[("t", &[1])], &[("t", &[0])]]);
}

#[test]
fn two_claims_of_one_generation_both_lose() {
    let members = [
        member("a", &["t"], 7, &[("t", &[0])]),
        member("b", &["t"], 7, &[("t", &[0, 1])]),
    ];
    check(&members, &[("t", 2)], &[&[], &[("t", &[1])]]);
}

#[test]
fn a_member_that_claims_twice_does_not_dispute_itself() {
    let members = [member("a", &["t"], 7, &[("t", &[0, 0]), ("t", &[0])])];
    check(&members, &[("t", 1)], &[&[("t", &[0])]]);
}

#[test]
fn claims_of_what_does_not_exist_are_passed_over() {
    let members = [member("a", &["t"], 7, &[("t", &[-1, 9]), ("gone", &[0])])];
    check(&members, &[("t", 1)], &[&[("t", &[0])]]);
}

#[test]
fn a_topic_that_only_one_wants_weighs_on_the_shared_one() {
    let members = [
        member("a", &["t", "u"], -1, &[]),
        member("b", &["u"], -1, &[]),
    ];
    check(
        &members,
        &[("t", 2), ("u", 2)],
        &[&[("t", &[0, 1])], &[("u", &[0, 1])]],
    );
}

#[test]
fn a_shift_runs_over_a_member_in_between() {
    // `a` has too much of `t`, which only `b` wants too; `b` can make room by passing on `u`.
    let members = [
        member("a", &["t"], 1, &[("t", &[0, 1, 2])]),
        member("b", &["t", "u"], 1, &[("u", &[0, 1])]),
        member("c", &["u"], 1, &[]),
    ];
    let members_counts = counts(&[("t", 3), ("u", 2)]);
    let topics = Topic::read_all(&members, &members_counts);
    let mut target = Target::of_valid_claims(3, &topics);
    target.hand_out_the_rest();
    target.balance();
    assert_eq!(target.loads, [2, 2, 1]);
}

/// A group as it might be found: who wants what, and who says that it holds what.
#[derive(Clone, Debug)]
struct Found {
    members: Vec<Member>,
    counts: BTreeMap<String, i32>,
}

const TOPICS: [&str; 3] = ["t", "u", "v"];

/// Whether all want the same, and whether claims may be disputed or outdated.
fn found(equal: bool, sane: bool) -> impl Strategy<Value = Found> {
    let wanted = proptest::collection::vec(1u8..8, 1..7);
    let sizes = proptest::collection::vec(0i32..14, 3);
    let claims = proptest::collection::vec((0usize..7, 0usize..3, 0i32..15), 0..40);
    let generations = proptest::collection::vec(0i32..3, 7);
    (wanted, sizes, claims, generations).prop_map(move |(wanted, sizes, claims, generations)| {
        let mut claimed = BTreeSet::new();
        let mut members: Vec<Member> = Vec::new();
        for (at, mask) in wanted.iter().enumerate() {
            let mask = if equal { wanted[0] } else { *mask };
            let topics: Vec<&str> = (0..3)
                .filter(|topic| mask & (1 << topic) != 0)
                .map(|topic| TOPICS[topic])
                .collect();
            let generation = if sane { 3 } else { generations[at] };
            let mut member = member(&format!("m{at}"), &topics, generation, &[]);
            for (claimant, topic, partition) in &claims {
                let known = topics.contains(&TOPICS[*topic]) && *partition < sizes[*topic];
                let sane_claim = known && claimed.insert((*topic, *partition));
                if *claimant == at && (sane_claim || !sane) {
                    member.subscription.owned.push(TopicPartitions {
                        topic: TOPICS[*topic].to_owned(),
                        partitions: vec![*partition],
                    });
                }
            }
            members.push(member);
        }
        let counts = TOPICS
            .iter()
            .zip(sizes)
            .map(|(t, n)| ((*t).to_owned(), n))
            .collect();
        Found { members, counts }
    })
}

impl Found {
    fn claims(&self, member: usize, topic: &str, partition: i32) -> bool {
        let owned = &self.members[member].subscription.owned;
        owned
            .iter()
            .any(|o| o.topic == topic && o.partitions.contains(&partition))
    }

    /// Lets every member do what it was told: give up what it has not got, take what is new.
    /// True if anybody has to join again.
    fn obey(&mut self, shares: &[Share], generation: i32) -> bool {
        let mut again = false;
        for (at, share) in shares.iter().enumerate() {
            for owned in &self.members[at].subscription.owned {
                let kept = share.get(&owned.topic);
                let keeps = |p: &i32| kept.is_some_and(|kept| kept.contains(p));
                again |= !owned.partitions.iter().all(keeps);
            }
            let subscription = &mut self.members[at].subscription;
            subscription.owned = crate::kafka::assignor::Assignment::of(share.clone()).partitions;
            subscription.generation = Some(generation);
        }
        again
    }
}

fn partitions(counts: &BTreeMap<String, i32>) -> impl Iterator<Item = (&str, i32)> + Clone {
    counts
        .iter()
        .flat_map(|(t, n)| (0..*n).map(move |p| (t.as_str(), p)))
}

fn holders(shares: &[Share], topic: &str, partition: i32) -> Vec<usize> {
    let holds = |share: &Share| share.get(topic).is_some_and(|p| p.contains(&partition));
    (0..shares.len()).filter(|at| holds(&shares[*at])).collect()
}

fn target_loads(found: &Found) -> Vec<usize> {
    let topics = Topic::read_all(&found.members, &found.counts);
    let mut target = Target::of_valid_claims(found.members.len(), &topics);
    target.hand_out_the_rest();
    target.balance();
    target.loads
}

proptest! {
    #[test]
    fn each_partition_goes_to_one_member_or_is_withheld(found in found(false, false)) {
        let shares = assign(&found.members, &found.counts);
        for (topic, partition) in partitions(&found.counts) {
            let wanted = found.members.iter().any(|member| member.subscribes_to(topic));
            let claimed = (0..shares.len()).any(|at| found.claims(at, topic, partition));
            match holders(&shares, topic, partition)[..] {
                [] => prop_assert!(!wanted || claimed, "{topic}-{partition} is forgotten"),
                [holder] => prop_assert!(found.members[holder].subscribes_to(topic)),
                _ => prop_assert!(false, "{topic}-{partition} has two holders"),
            }
        }
    }

    #[test]
    fn nothing_is_given_that_another_may_hold(found in found(false, false)) {
        let shares = assign(&found.members, &found.counts);
        for (topic, partition) in partitions(&found.counts) {
            let Some(holder) = holders(&shares, topic, partition).first().copied() else { continue };
            if found.claims(holder, topic, partition) {
                continue;
            }
            for other in 0..shares.len() {
                prop_assert!(!found.claims(other, topic, partition), "{topic}-{partition}");
            }
        }
    }

    #[test]
    fn equal_subscriptions_are_balanced_within_one(found in found(true, false)) {
        let loads = target_loads(&found);
        prop_assert!(loads.iter().max().unwrap() - loads.iter().min().unwrap() <= 1);
    }

    #[test]
    fn no_single_move_would_improve_unequal_subscriptions(found in found(false, false)) {
        let loads = target_loads(&found);
        let topics = Topic::read_all(&found.members, &found.counts);
        let mut target = Target::of_valid_claims(found.members.len(), &topics);
        target.hand_out_the_rest();
        target.balance();
        for from in 0..loads.len() {
            for topic in target.topics_of(from) {
                for to in &topics[topic].subscribers {
                    prop_assert!(loads[from] <= loads[*to] + 1);
                }
            }
        }
    }

    #[test]
    fn with_equal_subscriptions_nothing_moves_without_need(found in found(true, true)) {
        let shares = assign(&found.members, &found.counts);
        let mut owned = Vec::new();
        let mut kept = 0;
        let mut total = 0;
        for (at, share) in shares.iter().enumerate() {
            let claimed = partitions(&found.counts).filter(|(t, p)| found.claims(at, t, *p));
            owned.push(claimed.clone().count());
            kept += claimed.filter(|(t, p)| share.get(*t).is_some_and(|s| s.contains(p))).count();
            let topics = &found.members[at].subscription.topics;
            total = topics.iter().map(|t| usize::try_from(found.counts[t]).unwrap()).sum();
        }
        // The fullest members may hold one more, as many of them as the remainder allows.
        owned.sort_unstable_by(|a, b| b.cmp(a));
        let (floor, extra) = (total / owned.len(), total % owned.len());
        let most = owned.iter().enumerate();
        let most: usize = most.map(|(at, n)| (*n).min(floor + usize::from(at < extra))).sum();
        prop_assert_eq!(kept, most);
    }

    #[test]
    fn the_hand_over_converges_and_then_rests(mut found in found(false, false)) {
        let mut generation = 4;
        loop {
            let shares = assign(&found.members, &found.counts);
            let again = found.obey(&shares, generation);
            generation += 1;
            if !again {
                break;
            }
            prop_assert!(generation < 8, "still moving after {} rounds", generation - 4);
        }
        let settled = assign(&found.members, &found.counts);
        for (topic, partition) in partitions(&found.counts) {
            let wanted = found.members.iter().any(|member| member.subscribes_to(topic));
            prop_assert_eq!(holders(&settled, topic, partition).len(), usize::from(wanted));
        }
        prop_assert!(!found.obey(&settled, generation), "a settled group moved");
    }
}
