"""Runs a cluster of Apache Kafka nodes on loopback, each of them broker and controller (KRaft), and breaks it on demand.

    cluster.py VERSION [--nodes N] [--advertised PORT,...] [--host NAME] [--secure] [--set key=value]...

Each node has two listeners for clients: one that tells where it really listens, and one (FRONT) that tells the advertised
port of that place in the list instead, at that host, where the caller has a proxy. With --secure the second speaks SASL over
TLS alone, with keys and secrets of secure.py, and its sessions end soon. Prints one JSON line when every node takes requests.
Then standard input is a line for each command, each answered by a JSON line:

    kill N              SIGKILL
    stop N              SIGTERM, as an operator stops a broker, and wait for its end
    start N [VERSION]   start it again, perhaps with another version, and wait until it takes requests
    freeze N | thaw N   SIGSTOP, SIGCONT

It ends, with its nodes and their folders, when its standard input closes, or at a signal.
"""
import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import kafka
import secure

CLUSTER = "Rm9yZWJheS1yaWctY2x1c3"
HOST = "127.0.0.1"
SETTINGS = {
    "min.insync.replicas": "2",
    "offsets.topic.replication.factor": "3",
    "transaction.state.log.replication.factor": "3",
    "share.coordinator.state.topic.replication.factor": "3",
    # A dead broker is one after so long without a heartbeat (9 s by default, which every fault would wait for).
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
    "controller.quorum.election.timeout.ms": "500",
    "controller.quorum.fetch.timeout.ms": "1500",
    # A frozen controller keeps the brokers waiting for so long (30 s by default).
    "controller.socket.timeout.ms": "3000",
    "replica.lag.time.max.ms": "5000",
    "controlled.shutdown.retry.backoff.ms": "500",
    # Leaders stay where a test has moved them.
    "auto.leader.rebalance.enable": "false",
    # What retention takes is gone at once.
    "file.delete.delay.ms": "1000",
}
# Who comes by SASL has to authenticate again (KIP-368) under most of the faults.
SESSION_MS = "20000"


class Node:
    """One node: its folder, its process, where it listens."""

    def __init__(self, number, version, host, advertised, folder, keys):
        self.number = number
        self.version = version
        self.keys = keys
        self.dir = os.path.join(folder, f"node-{number}")
        os.makedirs(self.dir)
        self.port, self.front, self.inner, self.controller = [kafka.free_port() for _ in range(4)]
        self.advertised = f"{host}:{advertised or self.front}"
        self.process = None

    def configure(self, voters, settings):
        names = {"PLAINTEXT": self.port, "FRONT": self.front, "INNER": self.inner}
        own = {
            **kafka.COMMON, **SETTINGS, **settings,
            "process.roles": "broker,controller",
            "node.id": str(self.number),
            "controller.quorum.voters": voters,
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "INNER",
            "listeners": ",".join(f"{name}://127.0.0.1:{port}" for name, port in {**names, "CONTROLLER": self.controller}.items()),
            "advertised.listeners": ",".join(f"{name}://127.0.0.1:{port}" for name, port in names.items() if name != "FRONT")
                                    + f",FRONT://{self.advertised}",
            "listener.security.protocol.map": ",".join(f"{name}:PLAINTEXT" for name in [*names, "CONTROLLER"] if name != "FRONT")
                                              + f",FRONT:{'SASL_SSL' if self.keys else 'PLAINTEXT'}",
            "log.dirs": os.path.join(self.dir, "data"),
        }
        if self.keys:
            own.update({**secure.settings(self.keys, secure.MECHANISMS), "connections.max.reauth.ms": SESSION_MS})
        self.file = os.path.join(self.dir, "server.properties")
        with open(self.file, "w") as out:
            out.writelines(f"{key}={value}\n" for key, value in own.items())

    def command(self, main, heap_mb, *arguments):
        logins = [f"-Djava.security.auth.login.config={secure.jaas(self.keys)}"] if self.keys else []
        return ["java", *logins, f"-Xmx{heap_mb}m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Djava.net.preferIPv4Stack=true",
                *kafka.archived(self.version), "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", kafka.jars(f"kafka-{self.version}"), main, *arguments]

    def format(self):
        """Without a release version the newest metadata of this version; a cluster of an older one moves over by a tool."""
        users = kafka.scram_users(secure.MECHANISMS) if self.keys else []
        return subprocess.Popen(self.command("kafka.tools.StorageTool", 128, "format", "-t", CLUSTER, "-c", self.file, *users),
                                stdin=subprocess.DEVNULL, stdout=self.log(), stderr=subprocess.STDOUT)

    def log(self):
        return open(os.path.join(self.dir, "kafka.log"), "ab")

    def start(self):
        self.process = subprocess.Popen(self.command("kafka.Kafka", 384, self.file), stdin=subprocess.DEVNULL, stdout=self.log(),
                                        stderr=subprocess.STDOUT, cwd=self.dir, preexec_fn=kafka.die_with_parent)

    def await_accepted(self):
        deadline = time.monotonic() + kafka.START_SECONDS
        while not kafka.broker_listed(self.port):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"node {self.number} of Kafka {self.version} does not start: {self.last_words()}")
            time.sleep(0.1)

    def last_words(self):
        with open(os.path.join(self.dir, "kafka.log"), errors="replace") as file:
            return "".join(file.readlines()[-30:])

    def end(self, number):
        self.process.send_signal(number)
        self.process.wait()


class Cluster:
    """The nodes, and what can be done to them."""

    def __init__(self, version, nodes, host, advertised, is_secure, settings):
        self.dir = tempfile.mkdtemp(prefix=f"forebay-cluster-{version}-")
        self.keys = os.path.join(self.dir, "keys") if is_secure else None
        self.nodes = []
        try:
            if self.keys:
                secure.prepare(self.keys, secure.MECHANISMS, *([] if host == HOST else [host]))
            for at in range(nodes):
                self.nodes.append(Node(at + 1, version, host, advertised[at] if advertised else None, self.dir, self.keys))
            voters = ",".join(f"{node.number}@127.0.0.1:{node.controller}" for node in self.nodes)
            for node in self.nodes:
                node.configure(voters, settings)
            for node, formatting in [(node, node.format()) for node in self.nodes]:
                if formatting.wait() != 0:
                    raise RuntimeError(f"node {node.number} cannot be formatted: {node.last_words()}")
            for node in self.nodes:
                node.start()
            for node in self.nodes:
                node.await_accepted()
        except BaseException:
            self.close()
            raise

    def obey(self, word, number, version=None):
        node = self.nodes[int(number) - 1]
        if word == "kill":
            node.end(signal.SIGKILL)
        elif word == "stop":
            node.end(signal.SIGTERM)
        elif word == "start":
            node.version = version or node.version
            node.start()
            node.await_accepted()
        elif word == "freeze":
            node.process.send_signal(signal.SIGSTOP)
        elif word == "thaw":
            node.process.send_signal(signal.SIGCONT)
        else:
            raise RuntimeError(f"no command {word}")

    def close(self):
        for node in self.nodes:
            if node.process:
                node.process.kill()
                node.process.wait()
        shutil.rmtree(self.dir, ignore_errors=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("version")
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--advertised", default="")
    parser.add_argument("--host", default=HOST)
    parser.add_argument("--secure", action="store_true")
    parser.add_argument("--set", action="append", default=[])
    options = parser.parse_args()
    advertised = [int(port) for port in options.advertised.split(",") if port]
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))
    settings = dict(item.split("=", 1) for item in options.set)
    cluster = Cluster(options.version, options.nodes, options.host, advertised, options.secure, settings)
    try:
        say({"dir": cluster.dir, "keys": cluster.keys, "nodes": [{"direct": f"127.0.0.1:{node.port}", "front": f"127.0.0.1:{node.front}",
                                            "pid": node.process.pid} for node in cluster.nodes]})
        for line in sys.stdin:
            try:
                cluster.obey(*line.split())
                say({"done": line.strip()})
            except (RuntimeError, OSError) as error:
                say({"error": str(error)})
    finally:
        cluster.close()


def say(what):
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    sys.exit(main())
