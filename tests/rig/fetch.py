"""Brings what the real servers need, each once: a JDK and Maven by apt, Apache Kafka by Maven, librdkafka by pip.

Everything that apt does not install goes into tests/.rig, or the folder that FOREBAY_RIG names. Whatever is there already is not fetched again.
"""
import glob
import os
import shutil
import subprocess
import sys

from kafka import RIG, archive, clients, keep_classes, since

HERE = os.path.dirname(os.path.abspath(__file__))
VERSIONS = ["4.4.0", "4.0.2", "3.9.2", "2.8.2", "2.0.1", "1.1.1", "0.11.0.3", "0.10.1.0"]


def run(command, **options):
    """Runs a command; what it says is shown only if it fails."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout[-4000:]}")


def apt(*packages):
    """Installs Debian packages, as root or with sudo."""
    sudo = [] if os.geteuid() == 0 else ["sudo"]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    install = sudo + ["apt-get", "install", "-q", "-y", "--no-install-recommends", *packages]
    try:
        run(install, env=environment)
    except RuntimeError:
        run(sudo + ["apt-get", "update", "-q"])
        run(install, env=environment)


def install(*programs):
    """Installs the Debian packages of those programs that are not there."""
    missing = [package for program, package in programs if not shutil.which(program)]
    if missing:
        apt(*missing)


def java():
    install(("javac", "default-jdk-headless"), ("mvn", "maven"))


def jars(name):
    """The jars of one pom in tests/rig/poms."""
    folder = os.path.join(RIG, "jars", name)
    if not os.path.isdir(folder):
        java()
        part = folder + ".part"
        shutil.rmtree(part, ignore_errors=True)
        run(["mvn", "-q", "-B", "-f", os.path.join(HERE, "poms", f"{name}.xml"), f"-Dmaven.repo.local={RIG}/m2",
             "dependency:copy-dependencies", f"-DoutputDirectory={part}"])
        os.rename(part, folder)


def classes(version):
    """The rig's Java programs, compiled against that version's clients."""
    sources = sorted(glob.glob(os.path.join(HERE, "*.java")))
    folder = os.path.join(RIG, "classes", version)
    stamp = os.path.join(folder, "compiled")
    if not os.path.exists(stamp) or any(os.path.getmtime(s) > os.path.getmtime(stamp) for s in sources):
        os.makedirs(folder, exist_ok=True)
        run(["javac", "-d", folder, "-cp", os.path.join(RIG, "jars", f"kafka-{version}", "*"), *sources])
        with open(stamp, "w"):
            pass


def kafka(version):
    if version not in VERSIONS:
        raise RuntimeError(f"no Kafka {version}; there are {', '.join(VERSIONS)}")
    java()
    install(("openssl", "openssl"))
    jars(f"kafka-{version}")
    jars(f"kafka-{clients(version)}")
    classes(clients(version))
    if since(version, 3):
        jars("tools-4.3.1")
    # Of those that most tests start.
    if version in (VERSIONS[0], clients(VERSIONS[-1])) and not os.path.exists(archive(version)):
        keep_classes(version)


def python(name, requirements):
    """A Python of its own with what that file asks for, once, and again when it asks for something else."""
    venv = os.path.join(RIG, name)
    program, had = os.path.join(venv, "bin", "python"), os.path.join(venv, requirements)
    asked = open(os.path.join(HERE, requirements)).read()
    if not os.path.exists(had) or open(had).read() != asked:
        shutil.rmtree(venv, ignore_errors=True)
        try:
            run([sys.executable, "-m", "venv", venv + ".part"])
        except RuntimeError:
            apt("python3-venv")
            run(["/usr/bin/python3", "-m", "venv", "--clear", venv + ".part"])
        run([os.path.join(venv + ".part", "bin", "python"), "-m", "pip", "install", "-q", "--no-cache-dir",
             "-r", os.path.join(HERE, requirements)])
        with open(os.path.join(venv + ".part", requirements), "w") as file:
            file.write(asked)
        # The scripts inside name the folder, the interpreter does not: it may be moved.
        os.rename(venv + ".part", venv)
    return program


def librdkafka():
    python("venv", "requirements.txt")


def aws():
    """Servers that stand in for AWS's; returns the Python that has them, and botocore."""
    return python("aws", "aws.txt")


def kcat():
    install(("kcat", "kcat"))


def everything():
    for version in VERSIONS:
        kafka(version)
    librdkafka()


def cargo_fuzz():
    """cargo-fuzz in a folder of its own; returns how to call it."""
    root = os.path.join(RIG, "cargo-fuzz")
    program = os.path.join(root, "bin", "cargo-fuzz")
    if not os.path.exists(program):
        run(["cargo", "install", "-q", "--locked", "--root", root, "cargo-fuzz"])
    return program
