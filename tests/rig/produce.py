"""librdkafka's producer, writing records of every kind, as Produce.java does with Kafka's own.

    produce.py BOOTSTRAP TOPIC COUNT SEED [RATE [WITHOUT]]

COUNT counts what a reader of committed records will see; 0 means until standard input closes. RATE is records a second, 0 for
as fast as it goes. WITHOUT names what the broker or the topic's format does not have, joined by commas: headers, transactions,
zstd. The last line says how many were committed and how many aborted, as JSON.
"""
import json
import os
import random
import sys
import threading
import time

from confluent_kafka import Producer

CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
HEADER_KEYS = ["trace", "content-type", "name \"quoted\" \\ \t", "schl\u00fcssel \u6c34 \U0001f680"]


class Mixed:
    def __init__(self, bootstrap, topic, seed, without):
        self.random = random.Random(seed)
        self.topic = topic
        self.committed = self.aborted = 0
        self.failure = None
        self.has_headers = "headers" not in without
        # What numbers a producer's records for transactions does so for idempotence.
        is_idempotent = "transactions" not in without
        codecs = [codec for codec in CODECS if codec not in without]
        common = {"bootstrap.servers": bootstrap, "linger.ms": 5, "acks": "all", "message.max.bytes": 12000000}
        self.plain = [Producer({**common, "compression.codec": codec, "enable.idempotence": is_idempotent and at % 2 == 1})
                      for at, codec in enumerate(codecs)]
        self.transactional = [Producer({**common, "compression.codec": codec,
                                        "transactional.id": f"{topic}-librdkafka-{codec}-{seed}"})
                              for codec in codecs if is_idempotent]
        for producer in self.transactional:
            producer.init_transactions()
        self.partitions = len(self.plain[0].list_topics(topic, 30).topics[topic].partitions)

    def run(self, count, rate, closed):
        start = time.monotonic()
        while self.committed < count if count else not closed.is_set():
            n = self.random.randint(1, max(1, min(200, int(rate / 20))) if rate else 200)
            self.burst(min(n, count - self.committed) if count else n)
            if rate:
                time.sleep(max(0, start + (self.committed + self.aborted) / rate - time.monotonic()))
            if self.failure:
                raise RuntimeError(self.failure)
        for producer in self.plain:
            producer.flush()
        if self.failure:
            raise RuntimeError(self.failure)

    def burst(self, n):
        codec = self.random.randrange(len(self.plain))
        if self.random.randrange(4) or not self.transactional:
            self.send(self.plain[codec], n)
            self.committed += n
            return
        producer = self.transactional[codec]
        producer.begin_transaction()
        self.send(producer, n)
        if self.random.randrange(3):
            producer.commit_transaction()
            self.committed += n
        else:
            producer.flush()  # So that what is aborted has reached the log.
            producer.abort_transaction()
            self.aborted += n

    def send(self, producer, n):
        for _ in range(n):
            record = dict(partition=self.random.randrange(self.partitions), key=self.key(), value=self.value(), headers=self.headers(),
                          on_delivery=self.delivered)
            if self.random.randrange(10) == 0:
                record["timestamp"] = 1600000000000 + self.random.getrandbits(31)
            while True:
                try:
                    producer.produce(self.topic, **record)
                    break
                except BufferError:
                    producer.poll(0.1)
        producer.poll(0)

    def delivered(self, error, _message):
        if error:
            self.failure = str(error)

    def key(self):
        kind = self.random.randrange(4)
        if kind == 0:
            return None
        if kind == 1:
            return b"" if self.random.randrange(4) == 0 else self.random.randbytes(self.random.randint(1, 8))
        return b"key-%d" % self.random.randrange(1000)

    def value(self):
        kind = self.random.randrange(20)
        if kind == 0:
            return None
        if kind == 1:
            return b""
        if kind == 2:
            return self.random.randbytes(20000 if self.random.randrange(50) == 0 else 700)
        return b'{"order":%d,"state":"%s"}' % (self.random.getrandbits(63), b"paid " * self.random.randrange(40))

    def headers(self):
        if not self.has_headers or self.random.randrange(3):
            return []
        return [(self.random.choice(HEADER_KEYS), None if self.random.randrange(6) == 0 else self.random.randbytes(self.random.randrange(6)))
                for _ in range(self.random.randint(1, 5))]


def watch_input(closed):
    while os.read(0, 4096):
        pass
    closed.set()


def main():
    bootstrap, topic, count, seed = sys.argv[1:5]
    rate = float(sys.argv[5]) if len(sys.argv) > 5 else 0
    closed = threading.Event()
    threading.Thread(target=watch_input, args=[closed], daemon=True).start()
    mixed = Mixed(bootstrap, topic, int(seed), set(sys.argv[6].split(",")) if len(sys.argv) > 6 else set())
    mixed.run(int(count), rate, closed)
    print(json.dumps({"committed": mixed.committed, "aborted": mixed.aborted}), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
