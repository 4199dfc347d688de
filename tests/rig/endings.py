"""Each way a record can end, from a real Kafka to each kind of destination.

    endings.py moto|ministack FOREBAY

Four mappings read a topic each, with records that the function takes, fails with, reports as failed or never sees, and write what fails
to a bucket, a queue, a topic of SNS and a topic of Kafka. What stands there is compared with what was produced.
"""
import base64
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

import fetch
import kafka
from destinations import Destinations, Function, Server, environment, equal

FUNCTION = "orders"
PATIENCE_SECONDS = 120
# More than an event may have, once it is base64.
LARGE_BYTES = 5_000_000
OLD_SECONDS = 7200

# The kinds of the records of each topic, by offset, and what their documents say: the condition, and what the function answered.
KINDS = ["fine", "poison", "fine", "reported", "filtered", "old", "fine", "large", "fine"]
FAILED = {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"}
ABSENT = "absent"
ENDINGS = {
    "poison": ("RetryAttemptsExhausted", FAILED),
    "reported": ("RetryAttemptsExhausted", {**FAILED, "functionError": None}),
    # Without that member (contract 4.7).
    "old": ("RecordAgeExceeded", ABSENT),
    "large": ("MaximumPayloadSizeExceeded", None),
}
RETRIES = 1


class Scripted(Function):
    """Fails with poison, reports others as failed, and remembers how each record fared in each call."""

    def __init__(self):
        self.seen = {}
        self.lock = threading.Lock()
        super().__init__(self.answer)

    def answer(self, body):
        records = [record for some in json.loads(body)["records"].values() for record in some]
        kinds = [json.loads(base64.b64decode(record["value"]))["kind"] for record in records]
        is_poisoned = "poison" in kinds
        with self.lock:
            for record, kind in zip(records, kinds):
                self.seen.setdefault((record["topic"], record["offset"]), []).append(not is_poisoned and kind != "reported")
        if is_poisoned:
            return json.dumps({"errorMessage": "poison"}), {"X-Amz-Function-Error": "Unhandled", "X-Amz-Executed-Version": "$LATEST"}
        reported = [record for record, kind in zip(records, kinds) if kind == "reported"]
        failures = [{"itemIdentifier": {"partition": f"{it['topic']}-{it['partition']}", "offset": it["offset"]}} for it in reported]
        return json.dumps({"batchItemFailures": failures}), {"X-Amz-Executed-Version": "$LATEST"}


class Source:
    """The broker, and the topics with a record of each kind."""

    def __init__(self, names):
        fetch.kafka(fetch.VERSIONS[0])
        self.broker = kafka.Broker(fetch.VERSIONS[0], {"message.max.bytes": "10000000"})
        self.at = f"127.0.0.1:{self.broker.port}"
        admin = AdminClient({"bootstrap.servers": self.at})
        for future in admin.create_topics([NewTopic(name, 1, 1) for name in [*names, "failed"]]).values():
            future.result(30)
        producer = Producer({"bootstrap.servers": self.at, "message.max.bytes": 9_000_000, "enable.idempotence": True})
        now = int(time.time() * 1000)
        self.timestamps = [now - OLD_SECONDS * 1000 if kind == "old" else now for kind in KINDS]
        self.values = [self.value(offset, kind) for offset, kind in enumerate(KINDS)]
        for name in names:
            for offset, value in enumerate(self.values):
                producer.produce(name, value, key=self.key(offset), partition=0, timestamp=self.timestamps[offset])
        equal("records that are not written", producer.flush(60), 0)

    @staticmethod
    def key(offset):
        return f"key-{offset}".encode()

    @staticmethod
    def value(offset, kind):
        padding = "x" * LARGE_BYTES if kind == "large" else ""
        return json.dumps({"kind": kind, "number": offset, "padding": padding}).encode()

    def time(self, offset):
        """A record's timestamp as documents have it."""
        millis = self.timestamps[offset]
        return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(millis // 1000)) + f".{millis % 1000:03}Z"

    def committed(self, group):
        consumer = Consumer({"bootstrap.servers": self.at, "group.id": group})
        try:
            return consumer.committed([TopicPartition(group, 0)], 30)[0].offset
        except KafkaException as error:
            # Of a young broker the groups have no coordinator for a moment.
            return str(error)
        finally:
            consumer.close()

    def failed(self, count):
        """The messages of the topic of failed records."""
        consumer = Consumer({"bootstrap.servers": self.at, "group.id": "reader", "auto.offset.reset": "earliest", "fetch.message.max.bytes": 10_000_000})
        consumer.assign([TopicPartition("failed", 0, 0)])
        try:
            messages = [consumer.poll(30) for _ in range(count)]
            equal("messages that failed to come", [it and it.error() for it in messages], [None] * count)
            equal("a message too many", consumer.poll(1), None)
            return messages
        finally:
            consumer.close()


def declare(folder, function, source, arns):
    """A node with a mapping for each destination."""
    os.mkdir(os.path.join(folder, "mappings.d"))
    with open(os.path.join(folder, "forebay.toml"), "w") as file:
        file.write(f'mappings_dir = "mappings.d"\nruntime_dir = "run"\nstate_dir = "state"\nlisten = "127.0.0.1:0"\n[functions.{FUNCTION}]\n'
                   f'endpoint_url = "{function.url}"\n')
    pattern = json.dumps({"value": {"kind": [{"anything-but": "filtered"}]}})
    for name, destination in arns.items():
        with open(os.path.join(folder, "mappings.d", f"{name}.toml"), "w") as file:
            file.write(f'FunctionName = "{FUNCTION}"\nTopics = ["{name}"]\nStartingPosition = "TRIM_HORIZON"\nMaximumRetryAttempts = {RETRIES}\n'
                       f'MaximumRecordAgeInSeconds = 3600\nBisectBatchOnFunctionError = true\nFunctionResponseTypes = ["ReportBatchItemFailures"]\n'
                       f"FilterCriteria = {{ Filters = [{{ Pattern = '{pattern}' }}] }}\n"
                       f'DestinationConfig.OnFailure.Destination = "{destination}"\n'
                       f'SelfManagedEventSource.Endpoints.KAFKA_BOOTSTRAP_SERVERS = ["{source.at}"]\n'
                       f'SelfManagedKafkaEventSourceConfig.ConsumerGroupId = "{name}"\n')


def await_end(source, names, node):
    """Every mapping has committed all that there is."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        committed = {name: source.committed(name) for name in names}
        if all(offset == len(KINDS) for offset in committed.values()):
            return
        if time.monotonic() > deadline or node.poll() is not None:
            raise AssertionError(f"committed: {committed}, of {len(KINDS)} records each")
        time.sleep(0.5)


def common(document, calls):
    """What documents of all destinations have, with how often the function was called; gives the condition and the answer."""
    request = document["requestContext"]
    equal("version", document["version"], "1.0")
    equal("calls", request["approximateInvokeCount"], calls)
    equal("batch", document["KafkaBatchInfo"]["batchSize"], 1)
    return request["condition"], document.get("responseContext", ABSENT)


def calls_of(function, name, offset):
    """How often the function was called with a record; of one that it never saw AWS says once (contract 4.7)."""
    return max(1, len(function.seen.get((name, offset), [])))


def check_documents(source, function, name, documents):
    """Invocation records of contract 5.3: one for each record that failed, by its offset."""
    found = {}
    for document in documents:
        [(lane, info)] = document["KafkaBatchInfo"]["recordsInfo"].items()
        equal("lane", lane, f"{name}-0")
        offset = int(info["firstRecordOffset"])
        moment = source.time(offset)
        equal("record", info, {"firstRecordOffset": str(offset), "lastRecordOffset": str(offset), "firstRecordTimestamp": moment, "lastRecordTimestamp": moment})
        found.setdefault(offset, []).append(common(document, calls_of(function, name, offset)))
        if "payload" in document:
            check_event(source, name, offset, json.loads(document["payload"]))
    check_endings(name, found)


def check_event(source, name, offset, event):
    """The event in a document is that of the record alone."""
    [record] = event["records"][f"{name}-0"]
    equal("offset of the event", record["offset"], offset)
    equal("key of the event", base64.b64decode(record["key"]), source.key(offset))
    equal("value of the event is what was produced", base64.b64decode(record["value"]) == source.values[offset], True)


def check_messages(source, function, name, messages):
    """Records of contract 5.4: each under the key of its record."""
    found = {}
    for message in messages:
        document = json.loads(message.value())
        # Without its event, which a message has no room for, a document names the partition.
        info = document["KafkaBatchInfo"]["recordInfo"]
        offset = int(info["offset"])
        equal("record", info, {"offset": str(offset), "timestamp": source.time(offset)})
        equal("key", message.key(), source.key(offset))
        equal("function", document["requestContext"]["functionArn"].endswith(f":function:{FUNCTION}:$LATEST"), True)
        # The topic's own name for the condition (contract 5.4).
        condition, answer = common(document, calls_of(function, name, offset))
        found.setdefault(offset, []).append((re.sub("^RetriesExhausted$", "RetryAttemptsExhausted", condition), answer))
        if "payload" in document:
            check_event(source, name, offset, document["payload"])
    check_endings(name, found)


def check_endings(name, found):
    expected = {offset: [ENDINGS[kind]] for offset, kind in enumerate(KINDS) if kind in ENDINGS}
    equal(f"how records of {name} ended", found, expected)


def check_calls(function, names):
    """What went well did so once; what failed was called with again as often as it may be; the rest was never called with."""
    for name in names:
        for offset, kind in enumerate(KINDS):
            outcomes = function.seen.get((name, offset), [])
            if kind == "fine":
                equal(f"{name} {offset}: endings that went well", outcomes.count(True), 1)
            elif kind in ("poison", "reported"):
                equal(f"{name} {offset}: endings that went well", outcomes.count(True), 0)
                equal(f"{name} {offset}: called with, and then again", len(outcomes) > RETRIES, True)
            else:
                equal(f"{name} {offset}: calls", outcomes, [])


def run(server, forebay, folder):
    destinations, function = Destinations(server), Scripted()
    arns = {"to-bucket": "arn:aws:s3:::failed", "to-queue": destinations.queue[1], "to-sns": destinations.topic, "to-kafka": "kafka://failed"}
    source = Source(arns)
    try:
        declare(folder, function, source, arns)
        log = os.path.join(folder, "forebay.log")
        with open(log, "w") as out:
            node = subprocess.Popen([forebay, "run", "--config", os.path.join(folder, "forebay.toml")], stdin=subprocess.DEVNULL,
                                    stdout=out, stderr=out, env=environment(server, server.node))
        try:
            await_end(source, arns, node)
            check_calls(function, arns)
            check_documents(source, function, "to-bucket", [document for _, document in destinations.objects()])
            check_documents(source, function, "to-queue", [json.loads(it) for it in destinations.messages(destinations.queue)])
            check_documents(source, function, "to-sns", [json.loads(it) for it in destinations.messages(destinations.heard)])
            check_messages(source, function, "to-kafka", source.failed(len(ENDINGS)))
        except BaseException:
            with open(log) as said:
                print(said.read())
            raise
        finally:
            node.terminate()
            code = node.wait()
        equal("exit code", code, 0)
    finally:
        source.broker.stop()
        function.server.shutdown()


def main(kind, forebay):
    with tempfile.TemporaryDirectory() as folder:
        server = Server(kind, folder)
        try:
            run(server, forebay, folder)
        finally:
            server.stop()
    print(f"{kind}: every record has ended as it should")


if __name__ == "__main__":
    main(*sys.argv[1:])
