"""Captures what a real broker answers to Fetch versions 2 and 3, as vectors for the tests of the decoder.

    capture_fetch.py VERSION

Starts that broker, lets its own console producer write to a topic of one partition, sends requests that are put together
here, and keeps both as they were on the wire, lengths included, in tests/vectors/fetch.
"""
import os
import socket
import struct
import subprocess
import sys

import fetch
import kafka

VECTORS = os.path.join(os.path.dirname(fetch.HERE), "vectors", "fetch")
TOPIC = b"topic"


def string(text):
    return struct.pack(">h", len(text)) + text


def request(version, offset, topic=TOPIC):
    """Partition 0 from that offset, and partition 1, which does not exist."""
    head = struct.pack(">hhi", 1, version, 7) + string(b"forebay")
    waits = struct.pack(">iii", -1, 500, 1) + (struct.pack(">i", 1 << 20) if version >= 3 else b"")
    partitions = struct.pack(">i", 2) + struct.pack(">iqi", 0, offset, 4096) + struct.pack(">iqi", 1, 0, 4096)
    body = head + waits + struct.pack(">i", 1) + string(topic) + partitions
    return struct.pack(">i", len(body)) + body


def answer(port, sent):
    with socket.create_connection(("127.0.0.1", port), timeout=10) as s, s.makefile("rb") as received:
        s.sendall(sent)
        length = received.read(4)
        return length + received.read(struct.unpack(">i", length)[0])


def produce(broker, lines, *options, topic=TOPIC):
    command = broker.java("kafka.tools.ConsoleProducer", 128)
    subprocess.run([*command, "--broker-list", f"127.0.0.1:{broker.port}", "--topic", topic.decode(), *options],
                   input="".join(f"{line}\n" for line in lines), text=True, check=True)


def main(version):
    fetch.java()
    fetch.jars(f"kafka-{version}")
    os.makedirs(VECTORS, exist_ok=True)
    broker = kafka.Broker(version, {"auto.create.topics.enable": "true"})
    try:
        produce(broker, ["plain 0", "plain 1"])
        produce(broker, ["k2:gzip 2", "k3:gzip 3", ":"], "--compression-codec", "gzip",
                "--property", "parse.key=true", "--property", "key.separator=:")
        for spoken in (2, 3):
            for offset in (0, 3):
                sent = request(spoken, offset)
                for direction, frame in (("request", sent), ("response", answer(broker.port, sent))):
                    with open(os.path.join(VECTORS, f"{version}-v{spoken}-from-{offset}.{direction}"), "wb") as file:
                        file.write(frame)
    finally:
        broker.stop()


if __name__ == "__main__":
    main(sys.argv[1])
