//! Every bound of the appliance, in one place, with the relations between them checked at compile time.
//!
//! Invariant: a queue, loop, buffer or retry anywhere in Forebay names its bound from here (or from a
//! configuration key whose range stands here).

use std::time::Duration;

/// An event's body stays strictly below this many bytes (AWS: "Request must be smaller than 6291456
/// bytes for the InvokeFunction operation").
pub const BODY_BYTES_LIMIT: usize = 6_291_456;

/// Status line and headers of a function's answer, interim answers included.
pub const RESPONSE_HEAD_BYTES_MAX: usize = 64 * 1024;

/// Headers of an answer.
pub const RESPONSE_HEADERS_MAX: usize = 128;

/// A function's answer. AWS stops at 6 MiB + 100 bytes; an endpoint of another make may frame it wider.
pub const RESPONSE_BODY_BYTES_MAX: usize = 6 * 1024 * 1024 + 64 * 1024;

/// Of a function's or a service's error document at most this much is kept or read.
pub const ERROR_BODY_BYTES_MAX: usize = 64 * 1024;

/// Characters of somebody else's words that a status or a log shows.
pub const ERROR_TEXT_CHARS_MAX: usize = 512;

/// A Kafka frame larger than this is refused before a byte of it is stored. A fetch may bring one
/// record batch larger than asked for (KIP-74), so this is far above what we ask.
pub const FRAME_BYTES_MAX: usize = 128 * 1024 * 1024;

/// The longest first answer on a connection, which is that to ApiVersions: until then nobody knows that the other
/// side is a broker at all. Kafka 4 has 80 APIs of seven bytes each, and some features.
pub const FIRST_FRAME_BYTES_MAX: usize = 1024 * 1024;

/// What one Fetch asks for in all.
pub const FETCH_BYTES_MAX: usize = 8 * 1024 * 1024;

/// No honest answer is longer, but for a single batch that is larger than what is asked for: of those a shard receives
/// one at a time, since nobody has reserved their memory.
pub const FRAME_BYTES_ASKED: usize = 2 * FETCH_BYTES_MAX;

/// What one Fetch asks for of one partition.
pub const FETCH_PARTITION_BYTES_MAX: usize = 1024 * 1024;

/// One record batch may decompress to at most this many bytes.
pub const DECOMPRESSED_BYTES_MAX: usize = 128 * 1024 * 1024;

/// Decompression buffers of one consumer that wait for the next batch.
pub const SPARE_BUFFERS_MAX: usize = 4;

/// A larger buffer than this is freed after its batch.
pub const SPARE_BUFFER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Elements of any array in a control-plane answer, whatever the wire says.
pub const ARRAY_ELEMENTS_MAX: usize = 1_000_000;

/// Requests that wait for their answer on one connection.
pub const REQUESTS_IN_FLIGHT_MAX: usize = 64;

/// What a broker may say in one step of an authentication; SCRAM takes some 200 bytes.
pub const SASL_CHALLENGE_BYTES_MAX: usize = 16 * 1024;

/// With fewer iterations a password is not safe from whoever sees the proof; Kafka takes no fewer either.
pub const SCRAM_ITERATIONS_MIN: u32 = 4096;

/// A server that asks for more wants to keep us busy: this takes 0.2 s with SHA-256 and 0.4 s with SHA-512.
pub const SCRAM_ITERATIONS_MAX: u32 = 1_000_000;

/// Keys derived from passwords that one consumer keeps; a cluster has one salt for each user and mechanism.
pub const DERIVED_KEYS_MAX: usize = 4;

/// How long a broker may look into tiered storage to answer a ListOffsets (v10, KIP-1075); Java's
/// `request.timeout.ms`.
pub const LIST_OFFSETS_WAIT: Duration = Duration::from_secs(30);

/// `BatchSize` of a mapping.
pub const BATCH_SIZE_MAX: u32 = 10_000;

/// The batching window when `MaximumBatchingWindowInSeconds` is unset.
pub const DEFAULT_WINDOW: Duration = Duration::from_millis(500);

/// Bytes received in large frames, decoded, encoded or hashed in one turn of an event loop before it yields.
pub const TURN_BYTES: usize = 1024 * 1024;

/// With so many bytes asked for, or come and not received, a shard asks brokers for no more that they have ready: it
/// takes some 30 ms to encode and hash them, far longer than a broker nearby takes to send the next.
pub const ASKED_BYTES: usize = 2 * FETCH_BYTES_MAX;

/// What a broker has ready begins to come within it, or holds up others no longer.
pub const ANSWER_PROMPT: Duration = Duration::from_millis(10);

/// So long a fetch waits at most until its broker is asked: with what is left of [`ANSWER_EXPECTED`] no broker is suspected
/// for our own waiting.
pub const ASK_PATIENCE: Duration = Duration::from_secs(2);

/// How long a body that could be hashed alone waits at least for one that is still being encoded: about as long as it
/// takes to encode a full body, since hashed together they take half the time.
pub const COMPANY_WAIT: Duration = Duration::from_millis(2);

/// How long, for each MiB of it, a body waits in all for others: for one that is still being encoded, or of which
/// nothing has come yet while a broker has the records for it. About four times what its own hash takes.
pub const BACKLOG_COMPANY_WAIT_PER_MIB: Duration = Duration::from_millis(2);

/// Commits of one consumer are at least this far apart.
pub const COMMIT_INTERVAL_MIN: Duration = Duration::from_millis(100);

/// Owned lanes are committed again at least this often: brokers before 2.1 expire commits by age.
pub const RECOMMIT_INTERVAL: Duration = Duration::from_secs(3600);

/// Longest back-off between two attempts of anything.
pub const BACKOFF_MAX: Duration = Duration::from_secs(60);

/// First back-off after a function error.
pub const FUNCTION_ERROR_BACKOFF: Duration = Duration::from_secs(1);

/// First back-off after a throttle, a service error or a broken connection.
pub const SERVICE_ERROR_BACKOFF: Duration = Duration::from_millis(100);

/// How often a corrupt record batch is fetched anew before its lane halts.
pub const CORRUPT_FETCHES_MAX: u32 = 3;

/// Slack added to a function's timeout to make a call's deadline (decision 28).
pub const CALL_DEADLINE_MARGIN: Duration = Duration::from_secs(10);

/// A call's deadline when the function's timeout is not known.
pub const CALL_DEADLINE_DEFAULT: Duration = Duration::from_secs(910);

/// What is reserved for a frame before any of it has come; a larger one grows as its bytes arrive.
pub const FRAME_BYTES_RESERVED: usize = FETCH_BYTES_MAX + 64 * 1024;

/// Inputs that wait for one consumer's event loop; whoever pushes into a full queue waits.
pub const INPUTS_WAITING_MAX: usize = 256;

/// Inputs that one turn of a consumer's event loop takes.
pub const INPUTS_PER_TURN: usize = 64;

/// Frames that wait to be written to one broker; one that leaves more than this unread is given up.
pub const FRAMES_WAITING_MAX: usize = 64;

/// How long a resolver may take over one name.
pub const RESOLVE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the addresses behind a name may take, all together, until one accepts a connection
/// (Java's socket.connection.setup.timeout.ms).
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a call waits for the first credentials before it counts as one that could not be made.
pub const CREDENTIALS_TIMEOUT: Duration = Duration::from_secs(10);

/// Connections to one function endpoint that are kept open between calls.
pub const IDLE_CONNECTIONS_MAX: usize = 256;

/// How long such a connection is kept: less than the 5 s after which Node's servers close theirs, since a
/// call that meets that close must count as one that may have run.
pub const IDLE_CONNECTION_AGE_MAX: Duration = Duration::from_secs(4);

const _: () = assert!(FRAME_BYTES_RESERVED < FRAME_BYTES_MAX);
const _: () = assert!(FETCH_PARTITION_BYTES_MAX <= FETCH_BYTES_MAX);
const _: () = assert!(
    FETCH_BYTES_MAX + BODY_BYTES_LIMIT < FRAME_BYTES_MAX,
    "a full fetch plus one oversized batch must fit a frame"
);
const _: () = assert!(TURN_BYTES < BODY_BYTES_LIMIT);

/// How long a connection may take to stand, whatever the number of addresses behind the name.
pub const CONNECTING_MAX: Duration = Duration::from_secs(60);

/// First back-off before a broker is connected to again.
pub const RECONNECT_BACKOFF: Duration = Duration::from_millis(50);

/// A broker that owes an answer for longer than this (and for longer than it may wait on purpose) is suspected: the
/// cluster is asked whether it has gone on without it. Nothing is given up yet.
pub const ANSWER_EXPECTED: Duration = Duration::from_secs(3);

/// So long a view of the cluster is waited for at one broker, when another could be asked; it doubles with each round.
pub const VIEW_PATIENCE: Duration = Duration::from_secs(5);

/// While a join waits or the coordinator is silent, the cluster is asked so often whether it is still the same: it may
/// hold a join for minutes, and so may a broker that is frozen.
pub const COORDINATOR_CONFIRMED_EVERY: Duration = Duration::from_secs(3);

/// A broker that could not be reached for so long is named in the status: when one dies, its cluster needs less than
/// that to go on without it (`broker.session.timeout.ms` is 9 s).
pub const UNREACHABLE_SHOWN_AFTER: Duration = Duration::from_secs(15);

/// A lane that has work and no progress for so long, and no known reason for that, is started again.
pub const STANDSTILL_MAX: Duration = Duration::from_secs(60);

/// How often that is looked at.
pub const STANDSTILL_LOOKED_AT_EVERY: Duration = Duration::from_secs(5);

/// A call whose end is not told so long after its deadline has none.
pub const CALL_OVERDUE: Duration = Duration::from_secs(30);

/// Longest back-off before a broker is connected to again: a cluster that heals is found in seconds.
pub const RECONNECT_BACKOFF_MAX: Duration = Duration::from_secs(2);

/// First back-off after a broker has refused our credentials. Slow, because whoever tries a wrong password too
/// often may lock the account.
pub const AUTHENTICATION_BACKOFF: Duration = RECONNECT_BACKOFF_MAX;

/// Longest back-off after a broker has refused our credentials; as much as a half may come on top.
pub const AUTHENTICATION_BACKOFF_MAX: Duration = Duration::from_secs(60);

/// For how long a broker that refuses us is spoken of in the status after it last did: while it does, the next
/// time comes earlier.
pub const REFUSAL_SHOWN_MAX: Duration = Duration::from_secs(180);

/// Brokers refuse a second authentication within a second of the one before.
pub const REAUTHENTICATION_INTERVAL_MIN: Duration = Duration::from_millis(1100);

/// A session is renewed at least this often, if it ends at all.
pub const SESSION_LIFETIME_MAX: Duration = Duration::from_secs(30 * 86_400);

const _: () = assert!(
    AUTHENTICATION_BACKOFF_MAX.as_secs() * 3 / 2 + CONNECTING_MAX.as_secs()
        < REFUSAL_SHOWN_MAX.as_secs()
);

/// Longest silence that a broker's quota is believed to ask for.
pub const THROTTLE_MAX: Duration = Duration::from_secs(60);

/// A lane that holds fewer fetched bytes than this is fetched for.
pub const LANE_PENDING_BYTES_MIN: usize = 512 * 1024;

/// Of the memory budget, what each consumer has for fetched bytes alone.
pub const CONSUMER_FETCH_BYTES_MIN: usize = 2 * 1024 * 1024;

/// Of the memory budget, what each consumer has for encoded bytes alone: one body.
pub const CONSUMER_BODY_BYTES_MIN: usize = 8 * 1024 * 1024;

const _: () = assert!(CONSUMER_FETCH_BYTES_MIN >= FETCH_PARTITION_BYTES_MAX);
const _: () = assert!(CONSUMER_BODY_BYTES_MIN >= BODY_BYTES_LIMIT);

/// First back-off after the destination has not taken what was written to it.
pub const DESTINATION_BACKOFF: Duration = Duration::from_secs(1);

/// Writings to the destination that one consumer has under way at most.
pub const DIVERSIONS_MAX: usize = 4;

/// What one request carries to a topic of failed records, before it is compressed: more only if one record alone is larger.
/// Kafka's own producer stops there too (`max.request.size`).
pub const PRODUCE_BYTES_MAX: usize = 1024 * 1024;

/// The same of one partition: below `message.max.bytes` as brokers have it by default.
pub const PRODUCE_BATCH_BYTES_MAX: usize = PRODUCE_BYTES_MAX / 2;

/// A writing whose end is not told within it has failed.
pub const DIVERSION_OVERDUE: Duration = Duration::from_secs(180);

/// Where the owner chose that records are dropped that the destination does not take, it is written to so often before.
pub const DIVERSION_TRIES_BEFORE_DROP: u32 = 3;

/// The largest event of a record that no call may carry which a destination gets whole; of a larger one it gets where it
/// stands.
pub const OVERSIZED_EVENT_BYTES_MAX: usize = 32 * 1024 * 1024;

const _: () = assert!(OVERSIZED_EVENT_BYTES_MAX > BODY_BYTES_LIMIT);

/// First back-off after an answer that an operator must act on: it is probed slowly.
pub const REFUSED_BACKOFF: Duration = Duration::from_secs(2);

/// Longest `Retry-After` that is believed.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);

/// How often a halted lane is probed.
pub const HALT_PROBE_INTERVAL: Duration = Duration::from_secs(30);

/// Without an abort, the last commits may take this long: a coordinator that moves is found again.
pub const DRAIN_GRACE: Duration = Duration::from_secs(30);

/// After an abort, commits and leaving may take this long; then the consumer ends regardless.
pub const ABORT_GRACE: Duration = Duration::from_secs(3);

/// Notices that may wait for the shell; more are dropped, since the shell drains them after each step.
pub const NOTICES_MAX: usize = 256;

/// Offsets that operators may want one consumer to pass over at once.
pub const SKIPS_MAX: usize = 16;

/// Bytes of one lane decoded before the next lane has its turn.
pub const ENCODE_STEP_BYTES: usize = 256 * 1024;

/// Buffers of sent bodies that one shard keeps for the next ones, in bytes: at full rate as many are sent as are
/// being filled.
pub const RECYCLED_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Those that nobody has needed between two looks are let go, and looks are so far apart: within twice of it.
pub const RECYCLED_AGE_MAX: Duration = Duration::from_secs(2);

/// Receive buffers kept to be used again by one shard, in bytes.
pub const RECEIVE_BUFFERS_MAX: usize = 32 * 1024 * 1024;

/// A fetch is not worth asking for fewer bytes than this.
pub const FETCH_BYTES_MIN: usize = 64 * 1024;

const _: () = assert!(FETCH_BYTES_MIN <= CONSUMER_FETCH_BYTES_MIN);

/// What the fetches of all consumers of a shard ask for together that nobody knows to be there: records may come to
/// all of them at once. Each asks for its part, but for no less than is worth it.
pub const UNKNOWN_BYTES: usize = 32 * 1024 * 1024;

/// Characters of a function's `errorType` that the status and the log show.
pub const ERROR_TYPE_CHARS_MAX: usize = 128;

/// JSON that is nested deeper is not taken for JSON.
pub const JSON_DEPTH_MAX: usize = 1024;

/// Combinations that the `$or`s of one filter pattern may make.
pub const FILTER_BRANCHES_MAX: usize = 1024;
