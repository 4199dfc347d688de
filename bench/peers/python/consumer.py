"""Carries the records of a topic into a Lambda function, in order within each partition, at least once.

confluent-kafka, orjson, pybase64 and boto3. Takes what librdkafka has, delivers each partition's share in a thread of
its own, a call at a time, and stores an offset for commit after its call has succeeded.
"""
import os
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor, wait

import boto3
import orjson
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from confluent_kafka import Consumer, KafkaException, TIMESTAMP_LOG_APPEND_TIME
from pybase64 import b64encode_as_string

RETRY_SECONDS = 1
# Records that are taken at a time at most; what librdkafka queues is bounded in bytes.
TAKEN_RECORDS = 80_000
# More than the text around the records, and around the values of each; the most that a byte of a header takes.
EVENT_BYTES = 1024
RECORD_BYTES = 160
HEADER_BYTES = 6


class Settings:
    def __init__(self, environment):
        self.bootstrap = environment["PEER_BOOTSTRAP"]
        self.topic = environment["PEER_TOPIC"]
        self.group = environment["PEER_GROUP"]
        self.endpoint_url = environment["PEER_ENDPOINT_URL"]
        self.function = environment["PEER_FUNCTION"]
        self.region = environment["AWS_REGION"]  # Which boto3 alone calls otherwise.
        self.batch_size = int(environment["PEER_BATCH_SIZE"])
        self.body_limit = int(environment["PEER_BODY_LIMIT"])


class Delivery:
    """Carries one partition's share of what was taken."""

    def __init__(self, settings, consumer, stopping):
        self.settings = settings
        self.consumer = consumer
        self.stopping = stopping
        self.functions = boto3.client("lambda", region_name=settings.region, endpoint_url=settings.endpoint_url, config=Config(
            max_pool_connections=64, parameter_validation=False, retries={"mode": "standard"}))

    def run(self, partition, messages):
        topic = self.settings.topic
        records, size = [], EVENT_BYTES
        last = None
        for message in messages:
            record, room = written(topic, partition, message)
            size += room
            if records and (size > self.settings.body_limit or len(records) == self.settings.batch_size):
                self.call(f"{topic}-{partition}", records, last)
                records, size = [], EVENT_BYTES + room
            records.append(record)
            last = message
        self.call(f"{topic}-{partition}", records, last)

    def call(self, lane, records, last):
        body = orjson.dumps({"eventSource": "SelfManagedKafka", "bootstrapServers": self.settings.bootstrap, "records": {lane: records}})
        while not self.stopping.is_set():
            try:
                answer = self.functions.invoke(FunctionName=self.settings.function, Payload=body)
                answer["Payload"].read()
                if "FunctionError" not in answer:
                    self.consumer.store_offsets(message=last)
                    return
                print(lane, answer["FunctionError"], file=sys.stderr)
            except (BotoCoreError, ClientError) as error:
                print(lane, error, file=sys.stderr)
            self.stopping.wait(RETRY_SECONDS)


def written(topic, partition, message):
    """A record as in the event, and at least what it takes there."""
    kind, timestamp = message.timestamp()
    key, value, headers = message.key(), message.value(), message.headers()
    record = {
        "topic": topic,
        "partition": partition,
        "offset": message.offset(),
        "timestamp": timestamp,
        "timestampType": "LOG_APPEND_TIME" if kind == TIMESTAMP_LOG_APPEND_TIME else "CREATE_TIME",
    }
    room = RECORD_BYTES + len(topic)
    if key is not None:
        record["key"] = text = b64encode_as_string(key)
        room += len(text)
    if value is not None:
        record["value"] = text = b64encode_as_string(value)
        room += len(text)
    record["headers"] = []
    if headers:
        for name, value in headers:
            value = value or b""
            record["headers"].append({name: [byte - 256 if byte > 127 else byte for byte in value]})
            room += HEADER_BYTES * (len(name.encode()) + len(value) + 2)
    return record, room


def take(consumer):
    """What there is, by partition, or what comes within a second."""
    first = consumer.poll(1.0)
    messages = [] if first is None else [first, *consumer.consume(TAKEN_RECORDS, 0)]
    by_partition = {}
    for message in messages:
        if error := message.error():
            if error.fatal():
                raise KafkaException(error)
            print(error, file=sys.stderr)
        else:
            by_partition.setdefault(message.partition(), []).append(message)
    return by_partition


def main():
    settings = Settings(os.environ)
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    consumer = Consumer({
        "bootstrap.servers": settings.bootstrap,
        "group.id": settings.group,
        "auto.offset.reset": "earliest",
        "auto.commit.interval.ms": 1000,
        # An offset is stored when its call has succeeded.
        "enable.auto.offset.store": False,
        # The default of a second stalls a backlog whenever a queue was full.
        "fetch.queue.backoff.ms": 10,
        "fetch.message.max.bytes": 2 << 20,
        # Several calls for each partition; the default of 64 MiB gains nothing.
        "queued.max.messages.kbytes": 32768,
    })
    consumer.subscribe([settings.topic])
    delivery = Delivery(settings, consumer, stopping)
    with ThreadPoolExecutor(64) as threads:
        while not stopping.is_set():
            # All calls have ended before more is taken, and before a rebalance is served.
            done, _ = wait([threads.submit(delivery.run, *share) for share in take(consumer).items()])
            for future in done:
                future.result()
    consumer.close()


if __name__ == "__main__":
    main()
