"""The suite behind tests/run: parts that can be run alone or all together, and one summary.

Each part writes to a log in tests/.rig/logs; of a part that fails, the end of its log is shown.
"""
import json
import os
import re
import subprocess
import sys
import threading
import time

import fetch
import kafka

ROOT = os.path.dirname(os.path.dirname(fetch.HERE))
TARGET = os.environ.get("CARGO_TARGET_DIR") or os.path.join(ROOT, "target")
BINARY = os.path.join(TARGET, "debug", "forebay")
LOGS = os.path.join(os.path.dirname(fetch.HERE), ".rig", "logs")
TESTS = re.compile(r"^test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored", re.M)
SHOWN_LINES = 80
FUZZ = os.path.join(ROOT, "tests", "fuzz")
# Built in half of the time; what runs for seconds need not run as fast as it can.
FUZZ_OPTIONS = ["--fuzz-dir", FUZZ, "--codegen-units", "16"]
# Between two tries: what others do on the machine comes and goes within seconds.
TRY_AGAIN_SECONDS = 5
# Tests that only `tests/run cluster` has time for, and the version from which they move a cluster to the newest.
SLOW_CLUSTERS = "cluster::slow"
OLDER_CLUSTER = "4.0.2"


# The binary for parts that start it. Why a test target too: without one, cargo chooses other features, and builds half of all crates once more.
BUILD = ["cargo", "build", "--locked", "--workspace", "--bin", "forebay", "--test", "footprint"]
# The same for what users start.
BUILD_RELEASE = ["cargo", "build", "--locked", "--release", "--workspace", "--bins"]


class Part:
    """One running part: its log, and what it has counted."""

    def __init__(self, name):
        self.name = name
        self.passed = self.failed = self.skipped = 0
        self.log = os.path.join(LOGS, f"{name}.log")
        self.out = open(self.log, "w")

    def check(self, *command, counted=False, tries=1, **environment):
        """Runs a command, until it succeeds or for the last time. It counts as one test, or (counted) as those that Rust's test harness reports."""
        self.out.write(f"$ {' '.join(command)}\n")
        self.out.flush()
        start = self.out.tell()
        for again in range(tries):
            if again:
                time.sleep(TRY_AGAIN_SECONDS)
            done = subprocess.run(command, cwd=ROOT, env={**os.environ, "CARGO_TERM_COLOR": "never", **environment},
                                  stdin=subprocess.DEVNULL, stdout=self.out, stderr=subprocess.STDOUT)
            ok = done.returncode == 0
            if ok:
                break
        if counted:
            with open(self.log, errors="replace") as log:
                log.seek(start)
                results = [tuple(map(int, found)) for found in TESTS.findall(log.read())]
            self.passed += sum(r[0] for r in results)
            self.skipped += sum(r[2] for r in results)
            failed = sum(r[1] for r in results)
            self.failed += failed if ok or failed else 1
        else:
            self.passed += ok
            self.failed += not ok
        self.out.seek(0, os.SEEK_END)
        return ok

    def skip(self, reason):
        """Counts a test as skipped, and says so where it is seen."""
        print(f"{self.name}: skipped, {reason}", flush=True)
        self.out.write(f"skipped: {reason}\n")
        self.skipped += 1

    def test(self, target, *arguments, **environment):
        """One of the test binaries."""
        # Why --workspace everywhere: a narrower choice chooses other features, and builds the dependencies once more.
        self.check("cargo", "test", "--locked", "--workspace", "--test", target, "--", *arguments, counted=True, **environment)


def fmt(part):
    part.check("cargo", "fmt", "--all", "--check")


def clippy(part):
    part.check("cargo", "clippy", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings")


def unit(part):
    part.check("cargo", "test", "--locked", "--workspace", "--lib", "--bins", counted=True)
    # Binaries of their own, since each has an allocator that counts, or vectors to read.
    binaries = ["event_allocations", "event_vectors", "records_memory"]
    part.check("cargo", "test", "--locked", "--workspace", *(word for name in binaries for word in ("--test", name)), counted=True)
    # Once more with what runs where the CPU has none of what the kernels need.
    part.check("cargo", "test", "--locked", "--workspace", "--lib", "--", "kernels", "sigv4", "lambda", "hashing", counted=True, FOREBAY_KERNELS="off")
    part.check("cargo", "test", "--locked", "--workspace", "--doc", counted=True)


def tidy(part):
    """The house's rules that a machine can check."""
    part.test("tidy")


def simulation(part):
    """Stories, lies (FOREBAY_LIES=1 for all of them), and 60,000 seeded schedules; FOREBAY_SCHEDULES for another number."""
    part.test("stories")
    part.test("hostile")
    part.test("simulation", FOREBAY_SCHEDULES=os.environ.get("FOREBAY_SCHEDULES", "60000"))


def end_to_end(part):
    part.test("end_to_end")
    if part.check(*BUILD):
        # One at a time: what one burns must not slow the other.
        part.test("footprint", "--test-threads=1", FOREBAY_BIN=BINARY)


def destinations(part):
    """Failed records, written to servers that stand in for AWS's and read back by botocore; and each way to end, from a real Kafka."""
    program = fetch.aws()
    built = part.check(*BUILD)
    built = built and part.check("cargo", "test", "--locked", "--workspace", "--test", "destinations", "--no-run")
    for server in ["moto", "ministack"] if built else []:
        part.check(program, os.path.join(fetch.HERE, "destinations.py"), server, BINARY)
    if built:
        part.check(program, os.path.join(fetch.HERE, "endings.py"), "moto", BINARY)


def quickstart(part):
    """The README's first command, but in the profile of the tests, which is built here already."""
    part.check("cargo", "run", "--locked", "--example", "quickstart", "--", "--records", "200000")


def real_kafka(part):
    """Groups, starts, kills, security: on the newest Kafka, and some of it on older ones."""
    fetch.everything()
    if part.check(*BUILD):
        # Three at once: each has a broker of its own, and most of their time is waiting for sessions to end.
        part.test("real_kafka", "--test-threads=3", "--skip", SLOW_CLUSTERS, FOREBAY_RIG=fetch.RIG, FOREBAY_BIN=BINARY)


def cluster(part):
    """All that befalls a cluster of three nodes, in each way of being its client, which takes too long for every run."""
    fetch.everything()
    fetch.jars(f"kafka-{OLDER_CLUSTER}")
    if part.check(*BUILD):
        part.test("real_kafka", "--test-threads=1", "cluster::", FOREBAY_RIG=fetch.RIG, FOREBAY_BIN=BINARY)


def versions(part, **environment):
    """Of every version some ways in, and of the oldest, the newest and one between them all."""
    fetch.everything()
    if part.check(*BUILD):
        part.test("versions", FOREBAY_RIG=fetch.RIG, FOREBAY_BIN=BINARY, **environment)


def matrix(part):
    """Every version with every way in."""
    versions(part, FOREBAY_MATRIX="whole")


# Fuzz targets that reach into the data plane, which takes ten minutes to build for the sanitizer.
OF_THE_DATAPLANE = ["secret", "tls"]


def fuzz(part):
    """Some seconds for each target that needs the protocol alone (FOREBAY_FUZZ_SECONDS), from the seeds."""
    targets = [source.removesuffix(".rs") for source in sorted(os.listdir(os.path.join(FUZZ, "fuzz_targets")))]
    fuzz_targets(part, [target for target in targets if target not in OF_THE_DATAPLANE])


def fuzz_dataplane(part):
    """The same for the others; the unit tests play their seeds and changes of them."""
    fuzz_targets(part, OF_THE_DATAPLANE, "--features", "dataplane")


def fuzz_targets(part, targets, *features):
    program = fetch.cargo_fuzz()
    for target in targets:
        corpus = os.path.join(fetch.RIG, "corpus", target)
        os.makedirs(corpus, exist_ok=True)
        seeds = os.path.join(FUZZ, "seeds", target)
        part.check(program, "fuzz", "run", *FUZZ_OPTIONS, *features, target, corpus,
                   *([seeds] if os.path.isdir(seeds) else []), "--",
                   f"-max_total_time={os.environ.get('FOREBAY_FUZZ_SECONDS', '10')}", "-malloc_limit_mb=6", RUSTC_BOOTSTRAP="1")


def bench(part):
    """A short run of each of forebay-bench's commands, and the hot path's gates; goals are for these CPUs alone."""
    if not part.check(*BUILD_RELEASE):
        return
    program = os.path.join(TARGET, "release", "forebay-bench")
    fetch.kafka(fetch.VERSIONS[0])
    for command in short_runs():
        part.check(program, *command)
    own_kafka_and_function(part, program)
    part.check(program, "report", "--page", os.path.join(LOGS, "RESULTS.md"))
    with open("/proc/cpuinfo") as info:
        lacking = {"avx2", "sha_ni", "sse4_2"} - set(info.read().split())
    if lacking:
        part.skip(f"the gates' goals are for CPUs with {', '.join(sorted(lacking))}")
        return
    # What others do on the machine only makes a ratio worse: one run of several that meets the goals has shown it.
    # Not in pairs: those figures rise as soon as the core's other hardware thread is busy, whatever we do.
    part.check(program, "codec", "--gate", "--ways", "alone", "--value-bytes", "100,1024,10240", "--slack", "15", tries=8)
    part.check(program, "pipeline", "--gate", "--value-bytes", "1024,10240", "--filter", "none,value", "--megabytes", "100", "--rounds", "2", "--slack", "15", tries=5)
    part.check(program, "pipeline", "--gate", "--value-bytes", "1024", "--batch-size", "10,1000", "--megabytes", "50", "--rounds", "2", "--slack", "15", tries=5)
    part.check(program, "pipeline", "--gate", "--value-bytes", "1024", "--batch-size", "10", "--partitions", "8,1000", "--megabytes", "50", "--rounds", "2", "--slack", "15", tries=5)


def short_runs():
    """Those of the page: they show that a sub-command works; their figures say nothing."""
    with open(os.path.join(ROOT, "bench", "README.md")) as page:
        commands = re.findall(r"^    target/release/forebay-bench (.*?) +# short", page.read(), re.M)
    return [command.split() for command in commands]


def own_kafka_and_function(part, program):
    """The page's trial, on a topic of one's own, before the endpoint that stands in for a function."""
    broker = kafka.Broker(fetch.VERSIONS[0], {})
    function = subprocess.Popen([program, "function", "--listen", "127.0.0.1:0"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    try:
        at = f"127.0.0.1:{broker.port}"
        fetch.run(["java", "-XX:+UseSerialGC", "-cp", rig_classes(broker.version), "Topic", at, "orders", "4"])
        url = re.search(r"http://\S+", function.stdout.readline())
        if not url:
            raise RuntimeError("forebay-bench function has told no address")
        part.check(program, "trial", "--bootstrap-servers", at, "--topic", "orders", "--fill", "10", "--records", "1000000",
                   "--function", "orders", "--endpoint-url", url[0], "--signing", "none")
    finally:
        function.kill()
        function.wait()
        broker.stop()


def docs(part):
    part.check("cargo", "doc", "--locked", "--workspace", "--no-deps", RUSTDOCFLAGS="-D warnings")


PARTS = [fmt, clippy, tidy, unit, simulation, end_to_end, destinations, real_kafka, versions, fuzz, quickstart, bench, docs]
# Run only where they are named.
OTHER_PARTS = [matrix, cluster, fuzz_dataplane]


def run_part(function):
    part = Part(function.__name__)
    print(f"{part.name} ...", flush=True)
    start = time.monotonic()
    try:
        function(part)
    except (RuntimeError, OSError) as error:
        part.out.write(f"{error}\n")
        part.failed += 1
    part.out.close()
    part.seconds = time.monotonic() - start
    if part.failed:
        with open(part.log, errors="replace") as log:
            print("".join(log.readlines()[-SHOWN_LINES:]))
    print(line(part), flush=True)
    return part


def line(part):
    skipped = f", {part.skipped} skipped" if part.skipped else ""
    return f"{part.name:12} {part.seconds:6.0f} s   {part.passed} passed, {part.failed} failed{skipped}"


def build_ahead(log):
    """Builds what the last parts start, with what the processors have left while others wait for servers; each of those parts sees for itself whether it is there."""
    fuzz_build = [fetch.cargo_fuzz(), "fuzz", "build", *FUZZ_OPTIONS]
    for command, environment in [(fuzz_build, {"RUSTC_BOOTSTRAP": "1"}), (BUILD_RELEASE, {})]:
        subprocess.run(["nice", "-n", "19", *command], cwd=ROOT, env={**os.environ, "CARGO_TERM_COLOR": "never", **environment},
                       stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, check=False)


def suite(functions):
    start = time.monotonic()
    parts = []
    ahead = None
    for function in functions:
        if function is end_to_end and {fuzz, bench} <= set(functions):
            ahead = threading.Thread(target=build_ahead, args=[open(os.path.join(LOGS, "ahead.log"), "w")], daemon=True)
            ahead.start()
        if function is fuzz and ahead:
            ahead.join()
        parts.append(run_part(function))
    print(f"\nSummary, {time.monotonic() - start:.0f} s in all; logs in {os.path.relpath(LOGS, os.getcwd())}")
    for part in parts:
        print(line(part))
    total = [sum(getattr(part, count) for part in parts) for count in ("passed", "failed", "skipped")]
    print(f"{total[0]} passed, {total[1]} failed" + (f", {total[2]} skipped" if total[2] else ""))
    return 1 if total[1] else 0


def rig_classes(version):
    """Where the rig's programs are, with that version's clients."""
    clients = kafka.clients(version)
    return f"{fetch.RIG}/jars/kafka-{clients}/*:{fetch.RIG}/classes/{clients}"


def by_hand(version, broker):
    """How to work with a broker by hand: the rig's programs, and Kafka's own tools."""
    at = broker["bootstrap"]
    # Their own words at start-up are pages long, and are of use only when something fails.
    quiet = "java -XX:+UseSerialGC -Dorg.slf4j.simpleLogger.defaultLogLevel=error"
    own = f"{quiet} -cp '{rig_classes(version)}'"
    if kafka.since(version, 3):
        tools = f"{quiet} -cp '{fetch.RIG}/jars/tools-4.3.1/*' org.apache.kafka.tools."
        names = ["ConsoleProducer", "consumer.ConsoleConsumer", "GetOffsetShell", "consumer.group.ConsumerGroupCommand"]
    else:
        tools = f"{quiet} -cp '{fetch.RIG}/jars/kafka-{kafka.clients(version)}/*' kafka."
        names = ["tools.ConsoleProducer", "tools.ConsoleConsumer", "tools.GetOffsetShell", "admin.ConsumerGroupCommand"]
    producer, consumer, offsets, groups = [tools + name for name in names]
    if not kafka.since(version, 0, 11):
        groups = f"{quiet} -cp '{fetch.RIG}/jars/kafka-{version}/*' kafka.admin.ConsumerGroupCommand --new-consumer"
    without = f" 0 {','.join(kafka.lacks(version))}" if kafka.lacks(version) else ""
    rewind = f"""
  rewind it:     {groups} --bootstrap-server {at} --reset-offsets --to-earliest --topic NAME --group GROUP --execute"""
    server = "--broker-list" if tools.endswith(" kafka.") else "--bootstrap-server"
    return f"""Apache Kafka {version} listens on {at}; its logs and data are in {broker['dir']}.
  a topic:       {own} Topic {at} NAME PARTITIONS
  mixed records: {own} Produce {at} NAME COUNT SEED{without}
  by hand:       kcat -b {at} -t NAME -P
  a producer:    {producer} --bootstrap-server {at} --topic NAME
  a consumer:    {consumer} --bootstrap-server {at} --topic NAME --from-beginning
  end offsets:   {offsets} {server} {at} --topic NAME
  all groups:    {groups} --bootstrap-server {at} --list
  a group's lag: {groups} --bootstrap-server {at} --describe --group GROUP{rewind if kafka.since(version, 0, 11) else ''}
  stop it:       kill {broker['pid']}"""


def secure_listeners(broker):
    """Where a secure broker listens, and the secrets for it."""
    keys = broker["keys"]
    how = {
        "TLS": ("TLS:       ", ""),
        "MTLS": ("mutual TLS:", f", and CLIENT_CERTIFICATE_TLS_AUTH file:{keys}/client.json"),
        "SASL": ("SASL:      ", f", and BASIC_AUTH or SASL_SCRAM_..._AUTH file:{keys}/user.json"),
    }
    root = f"with SERVER_ROOT_CA_CERTIFICATE file:{keys}/root.json"
    return "".join(f"\n  {how[name][0]}    {at}, {root}{how[name][1]}" for name, at in broker["listeners"].items() if name in how)


def leave_a_broker(version, *options):
    fetch.kafka(version)
    fetch.kcat()
    with open(os.path.join(LOGS, f"kafka-{version}.log"), "w") as log:
        child = subprocess.Popen([sys.executable, os.path.join(fetch.HERE, "kafka.py"), version, "--stay", *options], stdin=subprocess.DEVNULL,
                                 stdout=subprocess.PIPE, stderr=log, start_new_session=True, text=True)
    said = child.stdout.readline()
    if not said:
        print(open(log.name).read(), file=sys.stderr)
        return 1
    broker = json.loads(said)
    print(by_hand(version, broker) + (secure_listeners(broker) if broker["keys"] else ""))
    return 0


def main(arguments):
    os.makedirs(LOGS, exist_ok=True)
    if arguments[:1] == ["kafka"]:
        return leave_a_broker(*(arguments[1:] or [fetch.VERSIONS[0]]))
    named = {function.__name__: function for function in PARTS + OTHER_PARTS}
    unknown = [name for name in arguments if name not in named]
    if unknown:
        print(f"no part {', '.join(unknown)}; there are: {' '.join(named)}, and kafka VERSION", file=sys.stderr)
        return 64
    return suite([named[name] for name in arguments] or PARTS)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
