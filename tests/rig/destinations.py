"""Failed records, written by Forebay to a server that stands in for AWS's, and read back by botocore.

    destinations.py moto|ministack FOREBAY

The server checks signatures and permissions. The test binary `destinations` writes a failure that it knows to each kind of
destination, and `forebay check --probe` a document of its own; what has come is compared with what stands here. And `forebay redrive` reads
and removes what was put there.
"""
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import boto3

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
REGION = "eu-central-1"
START_SECONDS = 120
# As tests/destinations/main.rs has it.
MANY = 2000
EVENT = '{"records":{"orders-0":["\\u00e9\\""]}}'


def policy(*actions, **more):
    # Why of everything: moto knows no resource by its name.
    return json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": actions, "Resource": "*", **more}]})


# What systemd/README.md says that a node needs; for HeadBucket moto wants an action of that name, which AWS does not have.
PERMISSIONS = policy("sqs:SendMessage", "sqs:GetQueueAttributes", "sns:Publish", "sns:GetTopicAttributes", "s3:PutObject", "s3:ListBucket", "s3:HeadBucket")
# And what it says that a redrive does.
REDRIVES = policy("s3:ListBucket", "s3:GetObject", "s3:DeleteObject", "sqs:ReceiveMessage", "sqs:ChangeMessageVisibility", "sqs:DeleteMessage", "sqs:GetQueueAttributes")
EVERYTHING = policy("*")
RANDOM = "[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"


def lane():
    return {
        "firstRecordOffset": "41",
        "lastRecordOffset": "42",
        "firstRecordTimestamp": "2024-03-01T09:59:59.000Z",
        "lastRecordTimestamp": "2024-03-01T09:59:59.500Z",
    }


def record(partitions):
    """The invocation record of the failure that the test binary writes."""
    return {
        "requestContext": {
            "requestId": "0b1",
            "functionArn": f"arn:aws:lambda:{REGION}:000000000000:function:orders",
            "condition": "RetryAttemptsExhausted",
            "approximateInvokeCount": 4,
        },
        "responseContext": {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"},
        "version": "1.0",
        "timestamp": "2024-03-01T10:00:00.123Z",
        "KafkaBatchInfo": {
            "batchSize": 2 * len(partitions),
            "bootstrapServers": "k1.example.net:9094",
            "payloadSize": 27,
            "recordsInfo": {f"orders-{partition}": lane() for partition in partitions},
        },
    }


class Server:
    """One of the two, in a folder of its own."""

    def __init__(self, kind, folder):
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        # Why not their scripts: those name the folder that they were installed in, which was another.
        commands = {
            "moto": ([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], {}),
            "ministack": ([sys.executable, "-m", "ministack"], {"BIND_HOST": "127.0.0.1", "GATEWAY_PORT": str(port), "AUTH": "true", "LAMBDA_EXECUTOR": "local"}),
        }
        command, environment = commands[kind]
        self.log = open(os.path.join(folder, "server.log"), "w+")
        self.child = subprocess.Popen(command, cwd=folder, env={**os.environ, **environment}, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        self.await_start()
        root = ("test", "test")
        users = (("owner", EVERYTHING), ("node", PERMISSIONS), ("redrive", REDRIVES))
        self.owner, self.node, self.redrive = [self.user(root, name, allowed) for name, allowed in users]
        if kind == "moto":
            # From here on it checks.
            enough = urllib.request.Request(f"{self.url}/moto-api/reset-auth", data=b"0", headers={"Content-Type": "text/plain"})
            urllib.request.urlopen(enough).read()

    def await_start(self):
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                urllib.request.urlopen(self.url, timeout=2).read()
                return
            except urllib.error.HTTPError:
                return
            except OSError:
                if time.monotonic() > deadline or self.child.poll() is not None:
                    self.log.seek(0)
                    raise RuntimeError(f"the server does not start:\n{self.log.read()}")
                time.sleep(0.1)

    def client(self, service, keys):
        return boto3.client(service, endpoint_url=self.url, region_name=REGION, aws_access_key_id=keys[0], aws_secret_access_key=keys[1])

    def user(self, root, name, allowed):
        iam = self.client("iam", root)
        iam.create_user(UserName=name)
        iam.put_user_policy(UserName=name, PolicyName=name, PolicyDocument=allowed)
        key = iam.create_access_key(UserName=name)["AccessKey"]
        return key["AccessKeyId"], key["SecretAccessKey"]

    def stop(self):
        self.child.terminate()
        self.child.wait()


class Destinations:
    """What failed records are written to, and how they are read back."""

    def __init__(self, server):
        self.sqs, self.sns, self.s3 = [server.client(service, server.owner) for service in ("sqs", "sns", "s3")]
        self.queue = self.made("failed")
        self.topic, self.heard = self.listened("failed")
        self.many, self.heard_many = self.listened("many")
        self.s3.create_bucket(Bucket="failed", CreateBucketConfiguration={"LocationConstraint": REGION})
        self.seen = set()

    def made(self, name):
        url = self.sqs.create_queue(QueueName=name)["QueueUrl"]
        arn = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        return url, arn

    def listened(self, name):
        """A topic, and a queue that hears it."""
        topic, queue = self.sns.create_topic(Name=name)["TopicArn"], self.made(f"heard-{name}")
        allowed = policy("sqs:SendMessage", Principal={"Service": "sns.amazonaws.com"})
        self.sqs.set_queue_attributes(QueueUrl=queue[0], Attributes={"Policy": allowed.replace('"*"', json.dumps(queue[1]))})
        self.sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue[1], Attributes={"RawMessageDelivery": "true"})
        return topic, queue

    def messages(self, queue):
        found = []
        while True:
            some = self.sqs.receive_message(QueueUrl=queue[0], MaxNumberOfMessages=10, WaitTimeSeconds=1, MessageAttributeNames=["All"]).get("Messages", [])
            if not some:
                return found
            for message in some:
                equal("attributes of a message", message.get("MessageAttributes", {}), {})
                found.append(message["Body"])
                self.sqs.delete_message(QueueUrl=queue[0], ReceiptHandle=message["ReceiptHandle"])

    def objects(self):
        """Those that are new: each key and document."""
        keys = [it["Key"] for it in self.s3.list_objects_v2(Bucket="failed").get("Contents", []) if it["Key"] not in self.seen]
        self.seen.update(keys)
        found = []
        for key in keys:
            told = self.s3.get_object(Bucket="failed", Key=key)
            equal("content type", told["ContentType"], "application/json")
            found.append((key, json.loads(told["Body"].read())))
        return found


def equal(what, found, expected):
    if found != expected:
        raise AssertionError(f"{what}: {found}\nexpected: {expected}")


def environment(server, keys):
    return {**os.environ, "AWS_ACCESS_KEY_ID": keys[0], "AWS_SECRET_ACCESS_KEY": keys[1], "AWS_REGION": REGION, "AWS_ENDPOINT_URL": server.url}


def failures(server, destinations):
    """The known failure, to each kind."""
    account = destinations.queue[1].split(":")[4]
    told = {**environment(server, server.node), "FOREBAY_DESTINATIONS": server.url, "FOREBAY_ACCOUNT": account}
    subprocess.run(["cargo", "test", "--locked", "--workspace", "--test", "destinations"], cwd=ROOT, env=told, check=True)
    for queue in (destinations.queue, destinations.heard):
        equal("documents", [json.loads(it) for it in destinations.messages(queue)], [record([0, 1])])
    [(key, document)] = destinations.objects()
    equal("document", document, {**record([0, 1]), "payload": EVENT})
    form = rf"aws/lambda/[0-9a-f-]{{36}}/orders-0/2024/03/01/2024-03-01T10\.00\.00-{RANDOM}"
    equal("key has its form", bool(re.fullmatch(form, key)), True)
    parts = destinations.messages(destinations.heard_many)
    equal("parts are several, and short enough", len(parts) > 1 and max(map(len, parts)) <= 262144, True)
    told = [json.loads(part) for part in parts]
    partitions = [[int(name.split("-")[1]) for name in part["KafkaBatchInfo"]["recordsInfo"]] for part in told]
    equal("parts", told, [record(numbers) for numbers in partitions])
    equal("partitions", sorted(sum(partitions, [])), list(range(MANY)))


def probes(server, destinations, forebay, folder):
    """The command, on a mapping to each kind; nobody serves the broker and the function, which is said as well."""
    folder = tempfile.mkdtemp(dir=folder)
    os.mkdir(os.path.join(folder, "mappings.d"))
    with open(os.path.join(folder, "forebay.toml"), "w") as file:
        file.write('mappings_dir = "mappings.d"\nruntime_dir = "run"\nlisten = "127.0.0.1:0"\n[functions.orders]\nsigning = "none"\n'
                   'endpoint_url = "http://127.0.0.1:1"\n')
    arns = {"queue": destinations.queue[1], "topic": destinations.topic, "bucket": "arn:aws:s3:::failed"}
    for name, arn in arns.items():
        with open(os.path.join(folder, "mappings.d", f"{name}.toml"), "w") as file:
            file.write(f'FunctionName = "orders"\nTopics = ["{name}"]\nDestinationConfig.OnFailure.Destination = "{arn}"\n'
                       'SelfManagedEventSource.Endpoints.KAFKA_BOOTSTRAP_SERVERS = ["127.0.0.1:1"]\n')
    checked = subprocess.run([forebay, "check", "--probe", "--config", os.path.join(folder, "forebay.toml")], env=environment(server, server.node),
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    lines = checked.stdout.splitlines()
    for name, arn in arns.items():
        for said in ("exists", "has taken a document whose condition is Probe and that tells of no record"):
            equal(f"{name} in {checked.stdout}", f"right: mapping {name}: destination {arn}: {said}" in lines, True)
    [in_queue], [in_topic] = destinations.messages(destinations.queue), destinations.messages(destinations.heard)
    [(key, in_bucket)] = destinations.objects()
    for document in (json.loads(in_queue), json.loads(in_topic), in_bucket):
        equal("condition", document["requestContext"]["condition"], "Probe")
        equal("partitions", document["KafkaBatchInfo"]["recordsInfo"], {})
    equal("key of a probe has its form", bool(re.fullmatch(rf"aws/lambda/[0-9a-f-]{{36}}/probe/\d{{4}}/\d\d/\d\d/\S+-{RANDOM}", key)), True)


class Function:
    """Keeps what it was called with; to each call it gives what `answer` makes of the body: another, and headers."""

    def __init__(self, answer=lambda body: ("null", {})):
        self.bodies = bodies = []

        class Call(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                bodies.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
                text, headers = answer(bodies[-1])
                self.send_response(200)
                for name, value in {**headers, "Content-Length": str(len(text.encode()))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Call)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"


def redriven(forebay, server, folder, *options):
    """What a redrive says, if all of it succeeds."""
    done = subprocess.run([forebay, "redrive", "--config", os.path.join(folder, "forebay.toml"), "orders", *options], env=environment(server, server.redrive),
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    equal(f"exit code, and {done.stdout}", done.returncode, 0)
    return done.stdout


def redrives(server, destinations, forebay, folder):
    """Documents of a bucket with more than one page, and of a queue; nobody serves the broker, so each has its event."""
    function, folder, uuid = Function(), tempfile.mkdtemp(dir=folder), "11111111-2222-3333-4444-555555555555"
    os.mkdir(os.path.join(folder, "mappings.d"))
    with open(os.path.join(folder, "forebay.toml"), "w") as file:
        file.write(f'mappings_dir = "mappings.d"\nstate_dir = "state"\n[functions.orders]\nsigning = "none"\nendpoint_url = "{function.url}"\n'
                   'timeout_seconds = 5\n')
    with open(os.path.join(folder, "mappings.d", "orders.toml"), "w") as file:
        file.write(f'UUID = "{uuid}"\nFunctionName = "orders"\nTopics = ["orders"]\nDestinationConfig.OnFailure.Destination = "arn:aws:s3:::failed"\n'
                   'SelfManagedEventSource.Endpoints.KAFKA_BOOTSTRAP_SERVERS = ["k1.example.net:9094"]\n')
    one = '{"topic":"orders","partition":0,"offset":%d,"timestamp":1,"timestampType":"CREATE_TIME","value":"eA==","headers":[]}'
    events = ['{"eventSource":"SelfManagedKafka","bootstrapServers":"k1.example.net:9094","records":{"orders-0":[' + one % offset + "]}}" for offset in range(3)]
    documents = [json.dumps({**record([0]), "payload": event}) for event in events]
    put = lambda key, text: destinations.s3.put_object(Bucket="failed", Key=f"aws/lambda/{uuid}/{key}", Body=text)
    others = [f"other/{number:04}" for number in range(1001)]
    for key in others:
        put(key, "{}")
    put("orders-0/a b+c&d/%2F\u00e9", documents[0])
    put("zzz", documents[1])
    counted = f"{len(others) + 2} documents: 2"
    equal("dry run", f"{counted} would be sent, 2 records in all, {len(others)} left alone" in redriven(forebay, server, folder), True)
    equal("calls of a dry run", function.bodies, [])
    said = redriven(forebay, server, folder, "--execute", "--remove")
    equal(f"summary of {said[-1000:]}", f"{counted} sent, 2 records sent, {len(others)} left alone, 2 removed" in said, True)
    equal("calls", function.bodies, events[:2])
    pages = destinations.s3.get_paginator("list_objects_v2").paginate(Bucket="failed", Prefix=f"aws/lambda/{uuid}/")
    equal("keys that are left", [it["Key"].split("/", 3)[3] for page in pages for it in page["Contents"]], others)

    url, arn = destinations.queue
    destinations.sqs.send_message(QueueUrl=url, MessageBody=documents[2])
    destinations.sqs.send_message(QueueUrl=url, MessageBody="hello")
    equal("dry run", "2 documents: 1 would be sent, 1 record in all, 1 left alone" in redriven(forebay, server, folder, "--from", arn), True)
    said = redriven(forebay, server, folder, "--from", arn, "--execute", "--remove")
    equal(f"summary of {said}", "2 documents: 1 sent, 1 record sent, 1 left alone, 1 removed" in said, True)
    equal("calls", function.bodies, events)
    equal("messages that are left", destinations.messages(destinations.queue), ["hello"])
    function.server.shutdown()


def main(kind, forebay):
    with tempfile.TemporaryDirectory() as folder:
        server = Server(kind, folder)
        try:
            destinations = Destinations(server)
            failures(server, destinations)
            probes(server, destinations, forebay, folder)
            redrives(server, destinations, forebay, folder)
        finally:
            server.stop()
    print(f"{kind}: every document is as it should be")


if __name__ == "__main__":
    main(*sys.argv[1:])
