//! FilterCriteria: which records are sent to the function (contract 8).
//!
//! Invariant: a pattern that does not compile refuses the mapping; none is left out.

use std::sync::Arc;

use forebay_protocol::filter::{Filter, FilterSet, MEMBERS, REFUSED};
use toml::Spanned;

use super::constraint::{length_constraint, violation};
use super::file::{FilterCriteriaFile, FilterFile};
use crate::config::{Findings, nearest};

const MEMBER: &str = "FilterCriteria.Filters";

/// Characters that are shown of a pattern: so many, and so many of them before the place that is meant.
const EXCERPT_LENGTH: usize = 40;
const EXCERPT_BEFORE: usize = 10;

/// AWS's bound.
const PATTERN_LENGTH_MAX: usize = 4096;

/// Compiles the patterns; there may be `filters_max` of them.
pub(super) fn filters(
    criteria: Option<&FilterCriteriaFile>,
    filters_max: usize,
    findings: &mut Findings<'_>,
) -> Arc<FilterSet> {
    let Some(given) = criteria.and_then(|it| it.filters.as_ref()) else {
        return Arc::default();
    };
    let count = given.get_ref().len();
    if count > filters_max {
        let constraint = length_constraint(count, 0, filters_max);
        let shown = format!("{count} filters");
        let message = violation(&shown, "filterCriteria.filters", &constraint);
        findings.at(given.span(), MEMBER, shown, message);
    }
    let filters = given.get_ref().iter();
    let filters = filters.filter_map(|it| filter(it, findings)).collect();
    Arc::new(FilterSet::new(filters))
}

fn filter(given: &Spanned<FilterFile>, findings: &mut Findings<'_>) -> Option<Filter> {
    let member = &format!("{MEMBER}.Pattern");
    let Some(pattern) = &given.get_ref().pattern else {
        let message = format!("{REFUSED} There is no Pattern in this filter");
        findings.at(given.span(), member, "", message);
        return None;
    };
    let (span, text) = (pattern.span(), pattern.get_ref());
    let length = text.chars().count();
    if length > PATTERN_LENGTH_MAX {
        let constraint = length_constraint(length, 0, PATTERN_LENGTH_MAX);
        let shown = format!("{length} characters");
        let message = violation(&shown, "filterCriteria.filters.pattern", &constraint);
        findings.at(span, member, shown, message);
        return None;
    }
    match Filter::compile(text) {
        Ok(filter) => {
            for foreign in filter.foreign_members() {
                findings.at(span.clone(), member, "", is_foreign(&foreign));
            }
            Some(filter)
        }
        Err(error) => {
            let place = text
                .chars()
                .skip(error.character.saturating_sub(EXCERPT_BEFORE));
            let excerpt: String = place.take(EXCERPT_LENGTH).collect();
            let message = format!(
                "{REFUSED} {error}, near {excerpt:?}; forebay filter --pattern FILE tries a pattern"
            );
            findings.at(span, member, "", message);
            None
        }
    }
}

/// What is said of a member that no record has. A pattern that speaks of it would hold every record back.
pub fn is_foreign(member: &str) -> String {
    let meant = match nearest(member, MEMBERS.into_iter()) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => format!("a pattern can speak of {}", MEMBERS.join(", ")),
    };
    format!("no record has `{member}`; {meant}")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::{Config, Machine, Surroundings};
    use crate::mapping::{Mapping, declared};

    /// A mapping with those filters, in a node with those keys.
    fn parse(filters: &str, keys: &str) -> Result<Mapping, Vec<String>> {
        let around = Surroundings::without_environment(Machine::here());
        let node = format!("region = \"eu-west-1\"\nendpoint_url = \"http://127.0.0.1:1\"\n{keys}");
        let config = Config::parse(&node, Path::new("forebay.toml"), &around).unwrap();
        let text = format!(
            "FunctionName = \"orders\"\nTopics = [\"orders\"]\nFilterCriteria = {{ {filters} }}\n\
             SelfManagedEventSource.Endpoints.KAFKA_BOOTSTRAP_SERVERS = [\"127.0.0.1:1\"]\n"
        );
        declared::parse(&text, Path::new("orders.toml"), &config).map_err(|problems| {
            let texts = problems.iter().map(ToString::to_string);
            texts.collect()
        })
    }

    fn refused(filters: &str, expected: &[&str]) {
        let problems = parse(filters, "").unwrap_err();
        assert_eq!(problems, expected);
    }

    fn many(count: usize) -> String {
        let filters = vec![r#"{ Pattern = '{"partition":[1]}' }"#; count];
        format!("Filters = [{}]", filters.join(", "))
    }

    #[test]
    fn patterns_are_compiled_and_none_is_all_records() {
        for none in ["", "Filters = []"] {
            assert!(parse(none, "").unwrap().filters.is_empty());
        }
        let one = parse(&many(1), "").unwrap();
        assert_eq!(one.filters.filters()[0].text(), r#"{"partition":[1]}"#);
        assert_ne!(
            one,
            parse(&many(2), "").unwrap(),
            "a reload sees the difference"
        );
    }

    #[test]
    fn a_pattern_that_does_not_compile_is_refused_with_awss_words_and_ours() {
        refused(
            r#"Filters = [{ Pattern = '{"value":{"status":"paid"}}' }, {}]"#,
            &[
                "orders.toml:3: FilterCriteria.Filters.Pattern: Invalid filter pattern definition. what \
                 value.status must be stands in an object or an array, at character 20, near \
                 \"{\\\"status\\\":\\\"paid\\\"}}\"; forebay filter --pattern FILE tries a pattern",
                "orders.toml:3: FilterCriteria.Filters.Pattern: Invalid filter pattern definition. There is no \
                 Pattern in this filter",
            ],
        );
    }

    #[test]
    fn a_member_that_no_record_has_is_refused_wherever_it_stands() {
        refused(
            r#"Filters = [{ Pattern = '{"vlaue":{"status":["paid"]}}' }]"#,
            &[
                "orders.toml:3: FilterCriteria.Filters.Pattern: no record has `vlaue`; did you mean `value`?",
            ],
        );
        refused(
            r#"Filters = [{ Pattern = '{"$or":[{"value.status":["paid"]},{"headers":[{"exists":true}]}]}' }]"#,
            &[
                "orders.toml:3: FilterCriteria.Filters.Pattern: no record has `headers`; a pattern can speak of topic, \
               partition, offset, timestamp, timestampType, key, value",
            ],
        );
    }

    #[test]
    fn awss_bounds_hold() {
        refused(
            &many(6),
            &[
                "orders.toml:3: FilterCriteria.Filters = 6 filters: 1 validation error detected: Value '6 filters' at \
               'filterCriteria.filters' failed to satisfy constraint: Member must have length less than or equal to 5",
            ],
        );
        assert!(parse(&many(6), "filters_max = 10").is_ok());
        let long = format!(
            r#"Filters = [{{ Pattern = '{{"value":["{}"]}}' }}]"#,
            "ä".repeat(4096)
        );
        let problems = parse(&long, "").unwrap_err();
        assert!(problems[0].ends_with("Member must have length less than or equal to 4096"));
        let most = format!(
            r#"Filters = [{{ Pattern = '{{"value":["{}"]}}' }}]"#,
            "ä".repeat(4082)
        );
        assert!(parse(&most, "").is_ok());
    }
}
