"""A member of a consumer group by librdkafka: cooperative-sticky, commits what it has processed, batch by batch.

    member.py BOOTSTRAP TOPIC GROUP SESSION_TIMEOUT_MS

Says in JSON lines what it owns and what it processed, each before it commits. Leaves the group when standard input closes.
"""
import json
import os
import sys
import threading
import time

from confluent_kafka import Consumer, KafkaException, TopicPartition


def say(event, **members):
    print(json.dumps({"event": event, "at": int(time.time() * 1000), **members}), flush=True)


def watch_input(closed):
    while os.read(0, 4096):
        pass
    closed.set()


def process(consumer, messages):
    batches = {}
    for message in messages:
        if not message.error():
            batches.setdefault(message.partition(), []).append(message.offset())
    if batches:
        time.sleep(0.02)
    for partition, offsets in batches.items():
        say("processed", partition=partition, first=offsets[0], last=offsets[-1])
        try:
            consumer.commit(offsets=[TopicPartition(sys.argv[2], partition, offsets[-1] + 1)], asynchronous=False)
        except KafkaException as error:
            say("uncommitted", partition=partition, error=str(error))


def main():
    bootstrap, topic, group, session = sys.argv[1:5]
    closed = threading.Event()
    threading.Thread(target=watch_input, args=[closed], daemon=True).start()
    consumer = Consumer({
        "bootstrap.servers": bootstrap,
        "group.id": group,
        "client.id": "librdkafka-member",
        "session.timeout.ms": int(session),
        "heartbeat.interval.ms": max(100, int(session) // 5),
        "isolation.level": "read_committed",
        "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
        "partition.assignment.strategy": "cooperative-sticky",
    })
    consumer.subscribe([topic],
                       on_assign=lambda c, added: [say("assigned", partition=tp.partition) for tp in added],
                       on_revoke=lambda c, gone: [say("revoked", partition=tp.partition) for tp in gone])
    while not closed.is_set():
        process(consumer, consumer.consume(200, 0.1))
    consumer.close()
    say("left")


if __name__ == "__main__":
    main()
