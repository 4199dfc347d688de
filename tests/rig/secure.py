"""Keys and certificates of a broker and of its clients, and the listeners that use them.

A root signs the broker (for 127.0.0.1, localhost and what else it is called) and two clients; another root signs nobody. The
secrets are files shaped as Forebay reads them; `client.properties` is for Kafka's own clients at the listener with mutual TLS.
"""
import json
import os
import subprocess

PASSWORD = "forebay-rig"
USER = "forebay"
LISTENERS = {"TLS": "SSL", "MTLS": "SSL", "SASL": "SASL_SSL"}
MECHANISMS = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]
MODULES = "org.apache.kafka.common.security"


def protocol(listener):
    """What is spoken at that listener, in Kafka's own word."""
    return LISTENERS.get(listener, listener)


def run(command, folder, text=None):
    done = subprocess.run(command, cwd=folder, input=text, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout}")


def root(folder, name):
    run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "90",
         "-subj", f"/CN={name}", "-addext", "basicConstraints=critical,CA:TRUE", "-keyout", f"{name}.key", "-out", f"{name}.pem"], folder)


def sign(folder, name, names=None):
    run(["openssl", "req", "-new", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", "-keyout", f"{name}.key",
         "-out", f"{name}.csr"], folder)
    extensions = f"subjectAltName={names}\n" if names else "keyUsage=digitalSignature\n"
    with open(os.path.join(folder, f"{name}.ext"), "w") as out:
        out.write(extensions)
    run(["openssl", "x509", "-req", "-in", f"{name}.csr", "-CA", "root.pem", "-CAkey", "root.key", "-CAcreateserial",
         "-days", "90", "-extfile", f"{name}.ext", "-out", f"{name}.pem"], folder)


def read(folder, name):
    with open(os.path.join(folder, name)) as file:
        return file.read()


def secret(folder, name, **members):
    with open(os.path.join(folder, f"{name}.json"), "w") as out:
        json.dump(members, out)


def jaas(folder):
    """Where a broker's logins are: in the one file that every version reads."""
    return os.path.join(folder, "jaas.conf")


def prepare(folder, mechanisms, *names):
    """Makes all of it in that folder, for a broker with those mechanisms that has those names besides its own."""
    os.makedirs(folder)
    root(folder, "root")
    root(folder, "stranger")
    sign(folder, "broker", ",".join(["IP:127.0.0.1", *(f"DNS:{name}" for name in ("localhost", *names))]))
    sign(folder, "client")
    sign(folder, "second")
    run(["openssl", "pkcs12", "-export", "-in", "broker.pem", "-inkey", "broker.key", "-name", "broker", "-passout",
         f"pass:{PASSWORD}", "-out", "broker.p12"], folder)
    run(["openssl", "pkcs12", "-export", "-in", "client.pem", "-inkey", "client.key", "-name", "client", "-passout",
         f"pass:{PASSWORD}", "-out", "client.p12"], folder)
    run(["keytool", "-importcert", "-noprompt", "-alias", "root", "-file", "root.pem", "-keystore", "trust.p12", "-storetype",
         "PKCS12", "-storepass", PASSWORD], folder)
    run(["openssl", "pkcs8", "-topk8", "-in", "client.key", "-passout", f"pass:{PASSWORD}", "-v1", "PBE-SHA1-3DES",
         "-out", "client.encrypted"], folder)
    secret(folder, "root", certificate=read(folder, "root.pem"))
    secret(folder, "stranger", certificate=read(folder, "stranger.pem"))
    secret(folder, "client", certificate=read(folder, "client.pem"), privateKey=read(folder, "client.encrypted"),
           privateKeyPassword=PASSWORD)
    secret(folder, "second", certificate=read(folder, "second.pem"), privateKey=read(folder, "second.key"))
    secret(folder, "user", username=USER, password=PASSWORD)
    secret(folder, "wrong", username=USER, password="wrong")
    scram = f"{MODULES}.scram.ScramLoginModule required;" if len(mechanisms) > 1 else ""
    with open(jaas(folder), "w") as out:
        out.write(f'KafkaServer {{ {MODULES}.plain.PlainLoginModule required user_{USER}="{PASSWORD}"; {scram} }};\n')
    with open(os.path.join(folder, "client.properties"), "w") as out:
        out.writelines(f"{key}={value}\n" for key, value in {"security.protocol": "SSL", **stores(folder, "client")}.items())


def stores(folder, name):
    return {
        "ssl.keystore.location": os.path.join(folder, f"{name}.p12"),
        "ssl.keystore.type": "PKCS12",
        "ssl.keystore.password": PASSWORD,
        "ssl.key.password": PASSWORD,
        "ssl.truststore.location": os.path.join(folder, "trust.p12"),
        "ssl.truststore.type": "PKCS12",
        "ssl.truststore.password": PASSWORD,
        "ssl.endpoint.identification.algorithm": "",
    }


def settings(folder, mechanisms):
    """What a broker needs for its secure listeners."""
    return {**stores(folder, "broker"), "sasl.enabled.mechanisms": ",".join(mechanisms)}
