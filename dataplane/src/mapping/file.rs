//! A file of `mappings.d` as written: AWS's member names in TOML, every value with its place.
//!
//! [`super::declared`] turns it into a [`Mapping`](super::Mapping).
//!
//! Invariant: an unknown member is an error, and so is a known one that this version does not carry
//! out: nothing that an operator wrote is ignored.

use serde::Deserialize;
use toml::{Spanned, Value};

/// The members of CreateEventSourceMapping (contract 7.3), and `UUID`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct MappingFile {
    #[serde(rename = "UUID")]
    pub(super) uuid: Option<Spanned<String>>,
    pub(super) enabled: Option<bool>,
    pub(super) function_name: Option<Spanned<String>>,
    pub(super) self_managed_event_source: Option<EventSourceFile>,
    pub(super) topics: Option<Spanned<Vec<String>>>,
    pub(super) starting_position: Option<Spanned<String>>,
    pub(super) starting_position_timestamp: Option<Spanned<Value>>,
    pub(super) self_managed_kafka_event_source_config: Option<KafkaSourceFile>,
    pub(super) batch_size: Option<Spanned<i64>>,
    pub(super) maximum_batching_window_in_seconds: Option<Spanned<i64>>,
    pub(super) provisioned_poller_config: Option<PollersFile>,
    pub(super) source_access_configurations: Option<Spanned<Vec<Spanned<AccessFile>>>>,
    pub(super) maximum_retry_attempts: Option<Spanned<i64>>,
    pub(super) maximum_record_age_in_seconds: Option<Spanned<i64>>,
    pub(super) bisect_batch_on_function_error: Option<bool>,
    pub(super) function_response_types: Option<Spanned<Vec<String>>>,
    pub(super) destination_config: Option<DestinationsFile>,
    pub(super) filter_criteria: Option<FilterCriteriaFile>,

    #[serde(rename = "KMSKeyArn")]
    kms_key_arn: Option<Spanned<Value>>,
    metrics_config: Option<Spanned<Value>>,
    logging_config: Option<Spanned<Value>>,
    tags: Option<Spanned<Value>>,

    event_source_arn: Option<Spanned<Value>>,
    queues: Option<Spanned<Value>>,
    parallelization_factor: Option<Spanned<Value>>,
    tumbling_window_in_seconds: Option<Spanned<Value>>,
    scaling_config: Option<Spanned<Value>>,
    amazon_managed_kafka_event_source_config: Option<Spanned<Value>>,
    #[serde(rename = "DocumentDBEventSourceConfig")]
    document_db_event_source_config: Option<Spanned<Value>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct EventSourceFile {
    pub(super) endpoints: EndpointsFile,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EndpointsFile {
    #[serde(rename = "KAFKA_BOOTSTRAP_SERVERS")]
    pub(super) kafka_bootstrap_servers: Spanned<Vec<Spanned<String>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct KafkaSourceFile {
    pub(super) consumer_group_id: Option<Spanned<String>>,
    consumption_mode: Option<Spanned<String>>,
    schema_registry_config: Option<Spanned<Value>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct PollersFile {
    pub(super) minimum_pollers: Option<Spanned<i64>>,
    pub(super) maximum_pollers: Option<Spanned<i64>>,
    poller_group_name: Option<Spanned<Value>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct DestinationsFile {
    pub(super) on_failure: Option<DestinationFile>,
    pub(super) on_success: Option<Spanned<Value>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct DestinationFile {
    pub(super) destination: Option<Spanned<String>>,
}

/// One of `SourceAccessConfigurations`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AccessFile {
    #[serde(rename = "Type")]
    pub(super) kind: Option<Spanned<String>>,
    #[serde(rename = "URI")]
    pub(super) uri: Option<Spanned<String>>,
}

/// `FilterCriteria`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct FilterCriteriaFile {
    pub(super) filters: Option<Spanned<Vec<Spanned<FilterFile>>>>,
}

/// One of its `Filters`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct FilterFile {
    pub(super) pattern: Option<Spanned<String>>,
}

/// A member that is there and must not be.
pub(super) struct Refused<'a> {
    pub(super) member: &'static str,
    pub(super) span: std::ops::Range<usize>,
    pub(super) value: Option<&'a Value>,
    pub(super) message: &'static str,
}

const NOT_CARRIED_OUT: &str = "is not carried out by this version; remove the member";
const NOT_KAFKA: &str = "does not apply to self-managed Kafka; remove the member";

impl MappingFile {
    /// The group's id, where there is one.
    pub(super) fn consumer_group_id(&self) -> Option<&Spanned<String>> {
        let kafka = self.self_managed_kafka_event_source_config.as_ref();
        kafka?.consumer_group_id.as_ref()
    }

    /// The members that would have no effect, in AWS's order.
    pub(super) fn refused(&self) -> Vec<Refused<'_>> {
        let kafka = self.self_managed_kafka_event_source_config.as_ref();
        let pollers = self.provisioned_poller_config.as_ref();
        let members = [
            ("KMSKeyArn", &self.kms_key_arn, NOT_CARRIED_OUT),
            ("MetricsConfig", &self.metrics_config, NOT_CARRIED_OUT),
            ("LoggingConfig", &self.logging_config, NOT_CARRIED_OUT),
            ("Tags", &self.tags, NOT_CARRIED_OUT),
            ("EventSourceArn", &self.event_source_arn, NOT_KAFKA),
            ("Queues", &self.queues, NOT_KAFKA),
            (
                "ParallelizationFactor",
                &self.parallelization_factor,
                NOT_KAFKA,
            ),
            (
                "TumblingWindowInSeconds",
                &self.tumbling_window_in_seconds,
                NOT_KAFKA,
            ),
            ("ScalingConfig", &self.scaling_config, NOT_KAFKA),
            (
                "AmazonManagedKafkaEventSourceConfig",
                &self.amazon_managed_kafka_event_source_config,
                NOT_KAFKA,
            ),
            (
                "DocumentDBEventSourceConfig",
                &self.document_db_event_source_config,
                NOT_KAFKA,
            ),
        ];
        let mut refused: Vec<_> = members
            .into_iter()
            .filter_map(|(member, value, message)| of_value(member, value.as_ref(), message))
            .collect();
        let nested = [
            (
                "SelfManagedKafkaEventSourceConfig.SchemaRegistryConfig",
                kafka.and_then(|kafka| kafka.schema_registry_config.as_ref()),
            ),
            (
                "ProvisionedPollerConfig.PollerGroupName",
                pollers.and_then(|pollers| pollers.poller_group_name.as_ref()),
            ),
        ];
        refused.extend(
            nested
                .into_iter()
                .filter_map(|(member, value)| of_value(member, value, NOT_CARRIED_OUT)),
        );
        if let Some(mode) = kafka.and_then(|kafka| kafka.consumption_mode.as_ref())
            && mode.get_ref() != "Stream"
        {
            refused.push(Refused {
                member: "SelfManagedKafkaEventSourceConfig.ConsumptionMode",
                span: mode.span(),
                value: None,
                message: "must be Stream; other modes are not carried out by this version",
            });
        }
        refused
    }
}

fn of_value<'a>(
    member: &'static str,
    value: Option<&'a Spanned<Value>>,
    message: &'static str,
) -> Option<Refused<'a>> {
    value.map(|value| Refused {
        member,
        span: value.span(),
        value: Some(value.get_ref()),
        message,
    })
}
