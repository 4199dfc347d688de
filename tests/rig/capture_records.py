"""Captures the message sets that a real broker keeps, as vectors for the tests of their reader.

    capture_records.py VERSION

Starts that broker with a topic of each message format, and one whose timestamps are the broker's; lets its own console producer
write three records in each codec to each; and keeps what a Fetch of version 3 brings, in tests/vectors/records.
"""
import os
import struct
import sys

import fetch
import kafka
from capture_fetch import answer, produce, request

VECTORS = os.path.join(os.path.dirname(fetch.HERE), "vectors", "records")
TOPICS = {
    "v0": "message.format.version=0.9.0",
    "v1": "message.format.version=0.10.1",
    "v1-append-time": "message.timestamp.type=LogAppendTime",
}
CODECS = ["none", "gzip", "snappy", "lz4"]


def record_set(frame, topic):
    """What stands in an answer for partition 0."""
    at = 4 + 4 + 4 + 4 + 2 + len(topic)  # length, correlation, throttle time, one topic, its name
    (partitions,) = struct.unpack_from(">i", frame, at)
    at += 4
    for _ in range(partitions):
        partition, error, _, size = struct.unpack_from(">ihqi", frame, at)
        at += 18
        if partition == 0:
            assert error == 0, error
            return frame[at:at + size]
        at += max(size, 0)
    raise RuntimeError("no partition 0")


def main(version):
    fetch.kafka(version)
    os.makedirs(VECTORS, exist_ok=True)
    clients = kafka.clients(version)
    class_path = f"{fetch.RIG}/classes/{clients}:{kafka.jars(f'kafka-{clients}')}"
    broker = kafka.Broker(version, {})
    try:
        for name, config in TOPICS.items():
            fetch.run(["java", "-cp", class_path, "Topic", f"127.0.0.1:{broker.port}", name, "1", config])
            for codec in CODECS:
                lines = [f"{codec}:{codec} {n} {'again ' * 10}" for n in range(3)]
                produce(broker, lines, "--compression-codec", codec, "--property", "parse.key=true",
                        "--property", "key.separator=:", topic=name.encode())
            with open(os.path.join(VECTORS, f"{version}-{name}"), "wb") as file:
                file.write(record_set(answer(broker.port, request(3, 0, name.encode())), name))
    finally:
        broker.stop()


if __name__ == "__main__":
    main(sys.argv[1])
