"""Runs one Apache Kafka broker out of a folder of jars, on loopback, in a folder of its own.

    kafka.py VERSION [--stay | --lasting] [--secure | --mutual] [--set key=value]...

With --secure it has listeners with TLS, mutual TLS and SASL over TLS besides, and keys and secrets for them (secure.py).
Before 0.10.2 a broker has one TLS listener at most: it asks for certificates with --mutual, and not with --secure.
Prints one JSON line when the broker takes requests. It ends, with its broker and folder, when its standard input closes
(with --stay: only at a signal), so no broker outlives the test that wanted it. Java compiles it in haste, which takes a fifth less
of the CPUs while tests run; with --lasting, and with --stay, as well as it can, which pays after a minute.
"""
import argparse
import ctypes
import json
import os
import random
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

import secure

RIG = os.path.abspath(os.environ.get("FOREBAY_RIG") or os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".rig"))
START_SECONDS = 120
KAFKA = "kafka.Kafka"
# What Kafka below 2.0 reaches for in a Java that no longer lets everyone.
OPENED = [f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in ("java.lang", "java.nio", "sun.nio.ch")]
# Brokers before 1.1 bring log4j, which is silent, even about why it ends, unless it is told where to write.
LOG4J = {
    "log4j.rootLogger": "WARN, out",
    "log4j.appender.out": "org.apache.log4j.ConsoleAppender",
    "log4j.appender.out.layout": "org.apache.log4j.PatternLayout",
    "log4j.appender.out.layout.ConversionPattern": "%p %m (%c)%n",
}
COMMON = {
    "auto.create.topics.enable": "false",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    # Some records bear timestamps of 2020: a retention of seven days takes them while a test runs.
    "log.retention.ms": "-1",
    "message.max.bytes": "12582912",
    "offsets.topic.num.partitions": "4",
    "offsets.topic.replication.factor": "1",
    "replica.fetch.max.bytes": "12582912",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
}


def since(version, *first):
    """Whether that version is one of those from `first` on."""
    return tuple(map(int, version.split("."))) >= first


def clients(version):
    """The version of the clients that write to such a broker and read from it: its own, or the oldest with all that ours need."""
    return version if since(version, 2, 8) else "2.8.2"


def lacks(version):
    """What mixed records cannot have at such a broker."""
    first = {"headers": (0, 11), "transactions": (0, 11), "zstd": (2, 1)}
    return [name for name, versions in first.items() if not since(version, *versions)]


def scram_users(mechanisms):
    """What gives a cluster that is being formatted its user, for those of the mechanisms whose users it keeps itself."""
    users = [f"{name}=[name={secure.USER},password={secure.PASSWORD}]" for name in mechanisms if name.startswith("SCRAM")]
    return [word for user in users for word in ("--add-scram", user)]


def jars(name):
    return os.path.join(RIG, "jars", name, "*")


def archive(version):
    """Where that version's classes are kept as Java has loaded and verified them once; with them a broker starts for half of the CPU time."""
    return os.path.join(RIG, "jars", f"kafka-{version}.jsa")


def archived(version):
    """Options for a Java whose class path begins with that version's jars. One that cannot use the archive does without, and is told
    not to say so: programs are read by what they write."""
    file = archive(version)
    return [f"-XX:SharedArchiveFile={file}", "-Xlog:disable", "-Xlog:all=error:stderr"] if os.path.exists(file) else []


def keep_classes(version):
    """Makes the archive of a broker that starts and ends. A Java that has none of its own classes makes none."""
    part = archive(version) + ".part"
    broker = Broker(version, {}, options=[f"-XX:ArchiveClassesAtExit={part}"])
    try:
        broker.processes[-1].terminate()
        broker.processes[-1].wait(START_SECONDS)
    finally:
        broker.stop()
    if os.path.exists(part):
        os.rename(part, archive(version))


def free_port():
    """A port below those that the kernel gives to connections: a broker takes seconds until it listens, and of those any that
    is opened meanwhile may take it away."""
    with open("/proc/sys/net/ipv4/ip_local_port_range") as file:
        first = int(file.read().split()[0])
    while True:
        port = random.randrange(10000, first) if first > 20000 else 0
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
                return s.getsockname()[1]
            except OSError:
                pass


def die_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


class Broker:
    """A broker's processes, its folder, and where it listens."""

    def __init__(self, version, settings, is_secure=False, is_mutual=False, is_lasting=False, options=()):
        self.version = version
        self.options = [*options, *([] if is_lasting else ["-XX:TieredStopAtLevel=1"])]
        self.dir = tempfile.mkdtemp(prefix=f"forebay-kafka-{version}-")
        self.port = free_port()
        self.processes = []
        self.settings = {**COMMON, **settings}
        self.listeners = {"PLAINTEXT": self.port}
        self.keys = os.path.join(self.dir, "keys") if is_secure or is_mutual else None
        self.names_listeners = since(version, 0, 10, 2)
        self.mechanisms = secure.MECHANISMS if since(version, 0, 10, 2) else ["PLAIN"]
        try:
            self.write("log4j.properties", LOG4J)
            if self.keys:
                self.make_secure(is_mutual)
            (self.format if since(version, 3) else self.start_zookeeper)()
            self.start("kafka", KAFKA, [self.write("server.properties", self.settings)], 512)
            self.await_accepted(broker_listed)
        except BaseException:
            self.stop()
            raise

    def make_secure(self, is_mutual):
        """Keys, and where they are used."""
        secure.prepare(self.keys, self.mechanisms)
        names = secure.LISTENERS if self.names_listeners else ["MTLS" if is_mutual else "TLS", "SASL"]
        self.listeners.update({name: free_port() for name in names})
        self.settings.update(secure.settings(self.keys, self.mechanisms))
        self.settings["listener.name.mtls.ssl.client.auth" if self.names_listeners else "ssl.client.auth"] = (
            "required" if "MTLS" in names else "none")

    def scram(self):
        """The mechanisms whose users the brokers keep themselves."""
        return [name for name in self.mechanisms if name.startswith("SCRAM")] if self.keys else []

    def format(self):
        """KRaft: one node that is broker and controller."""
        controller = free_port()
        self.settings.update({
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@127.0.0.1:{controller}",
            "listeners": f"{self.addresses()},CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": self.addresses(),
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": f"{self.protocols()},CONTROLLER:PLAINTEXT",
            "log.dirs": os.path.join(self.dir, "data"),
            "share.coordinator.state.topic.min.isr": "1",
            "share.coordinator.state.topic.replication.factor": "1",
        })
        file = self.write("server.properties", self.settings)
        command = self.java("kafka.tools.StorageTool", 128) + ["format", "-t", "Rm9yZWJheS1yaWctYnJrcg", "-c", file]
        subprocess.run(command + scram_users(self.scram()), check=True,
                       stdin=subprocess.DEVNULL, stdout=self.log("format"), stderr=subprocess.STDOUT)

    def start_zookeeper(self):
        port = free_port()
        self.settings.update({
            "broker.id": "1",
            "zookeeper.connect": f"127.0.0.1:{port}",
            # Their six seconds are too few where both start at once and the machine has other work.
            "zookeeper.connection.timeout.ms": "60000",
            "zookeeper.session.timeout.ms": "20000",
            "listeners": self.addresses(),
            "log.dirs": os.path.join(self.dir, "data"),
        })
        if self.names_listeners:
            self.settings["listener.security.protocol.map"] = self.protocols()
        file = self.write("zookeeper.properties", {
            "dataDir": os.path.join(self.dir, "zookeeper"),
            "clientPort": str(port),
            "clientPortAddress": "127.0.0.1",
            "maxClientCnxns": "0",
            "admin.enableServer": "false",
        })
        self.start("zookeeper", "org.apache.zookeeper.server.quorum.QuorumPeerMain", [file], 128)
        if self.scram():
            self.add_user(f"127.0.0.1:{port}")

    def add_user(self, zookeeper):
        """ZooKeeper may not listen yet: the tool waits for it."""
        command = self.java("kafka.admin.ConfigCommand", 128)
        passwords = ",".join(f"{mechanism}=[password={secure.PASSWORD}]" for mechanism in self.scram())
        subprocess.run(command + ["--zookeeper", zookeeper, "--alter", "--add-config", passwords,
                                  "--entity-type", "users", "--entity-name", secure.USER], check=True,
                       stdin=subprocess.DEVNULL, stdout=self.log("users"), stderr=subprocess.STDOUT)

    def addresses(self):
        name = (lambda own: own) if self.names_listeners else secure.protocol
        return ",".join(f"{name(own)}://127.0.0.1:{port}" for own, port in self.listeners.items())

    def protocols(self):
        return ",".join(f"{name}:{secure.protocol(name)}" for name in self.listeners)

    def write(self, name, settings):
        path = os.path.join(self.dir, name)
        with open(path, "w") as out:
            out.writelines(f"{key}={value}\n" for key, value in settings.items())
        return path

    def log(self, name):
        return open(os.path.join(self.dir, f"{name}.log"), "ab")

    def java(self, main, heap_mb):
        opened = [] if since(self.version, 2) else OPENED
        logins = []
        if main == KAFKA and self.keys:
            # They are those of Kafka's clients: it does not log in to ZooKeeper.
            logins = [f"-Djava.security.auth.login.config={secure.jaas(self.keys)}", "-Dzookeeper.sasl.client=false"]
        options = self.options if main == KAFKA else ["-XX:TieredStopAtLevel=1"]
        return ["java", f"-Xmx{heap_mb}m", *opened, *options, *archived(self.version), "-XX:+UseSerialGC", "-Djava.net.preferIPv4Stack=true",
                # ZooKeeper wants to show log4j's settings, which is not always there.
                f"-Dlog4j.configuration=file:{self.dir}/log4j.properties", "-Dzookeeper.jmx.log4j.disable=true",
                *logins, "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", jars(f"kafka-{self.version}"), main]

    def start(self, name, main, arguments, heap_mb):
        self.processes.append(subprocess.Popen(
            self.java(main, heap_mb) + arguments, stdin=subprocess.DEVNULL, stdout=self.log(name),
            stderr=subprocess.STDOUT, cwd=self.dir, preexec_fn=die_with_parent))

    def await_accepted(self, accepted):
        deadline = time.monotonic() + START_SECONDS
        while not accepted(self.port):
            dead = [p for p in self.processes if p.poll() is not None]
            if dead or time.monotonic() > deadline:
                raise RuntimeError(f"Kafka {self.version} does not start: {self.last_words()}")
            time.sleep(0.1)

    def last_words(self):
        words = []
        for name in sorted(os.listdir(self.dir)):
            if name.endswith(".log"):
                with open(os.path.join(self.dir, name), errors="replace") as file:
                    words.append(f"{name}:\n" + "".join(file.readlines()[-15:]))
        return "\n".join(words)

    def stop(self):
        for process in reversed(self.processes):
            if process.poll() is None:
                process.kill()
            process.wait()
        shutil.rmtree(self.dir, ignore_errors=True)


def broker_listed(port):
    """Whether Metadata (version 1, no topics) names a broker."""
    request = struct.pack(">hhih", 3, 1, 7, 3) + b"rig" + struct.pack(">i", 0)
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as s:
            s.sendall(struct.pack(">i", len(request)) + request)
            reply = s.makefile("rb").read(12)
            return len(reply) == 12 and struct.unpack(">iii", reply)[2] > 0
    except OSError:
        return False


def await_end_of_input(done):
    while os.read(0, 4096):
        pass
    done.set()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("version")
    parser.add_argument("--stay", action="store_true")
    parser.add_argument("--lasting", action="store_true")
    parser.add_argument("--secure", action="store_true")
    parser.add_argument("--mutual", action="store_true")
    parser.add_argument("--set", action="append", default=[])
    options = parser.parse_args()
    done = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: done.set())
    broker = Broker(options.version, dict(item.split("=", 1) for item in options.set), options.secure, options.mutual,
                    options.lasting or options.stay)
    try:
        print(json.dumps({"bootstrap": f"127.0.0.1:{broker.port}", "version": broker.version, "pid": os.getpid(),
                          "clients": clients(broker.version), "lacks": lacks(broker.version),
                          "listeners": {name: f"127.0.0.1:{port}" for name, port in broker.listeners.items()}, "keys": broker.keys,
                          "pids": [p.pid for p in broker.processes], "dir": broker.dir}), flush=True)
        if not options.stay:
            threading.Thread(target=await_end_of_input, args=[done], daemon=True).start()
        done.wait()
    finally:
        broker.stop()


if __name__ == "__main__":
    sys.exit(main())
