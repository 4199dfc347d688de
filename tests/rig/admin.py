"""What an administrator does to a broker, by librdkafka.

    admin.py BOOTSTRAP scram USER PASSWORD
    admin.py BOOTSTRAP allow USER topic|group NAME

The first gives a user of SCRAM a new password, for each mechanism; the second lets him describe and read.
"""
import sys

from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

ITERATIONS = 4096


def wait(futures):
    for future in futures.values():
        future.result(30)


def set_password(admin, user, password):
    for mechanism in (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512):
        credential = ScramCredentialInfo(mechanism, ITERATIONS)
        # One at a time: a broker takes no user twice in a request.
        wait(admin.alter_user_scram_credentials([UserScramCredentialUpsertion(user, credential, password.encode())]))


def allow(admin, user, kind, name):
    resource = {"topic": ResourceType.TOPIC, "group": ResourceType.GROUP}[kind]
    operations = [AclOperation.DESCRIBE, AclOperation.READ]
    wait(admin.create_acls([AclBinding(resource, name, ResourcePatternType.LITERAL, f"User:{user}", "*", operation,
                                         AclPermissionType.ALLOW) for operation in operations]))


def main(bootstrap, action, *arguments):
    actions = {"scram": set_password, "allow": allow}
    actions[action](AdminClient({"bootstrap.servers": bootstrap}), *arguments)


if __name__ == "__main__":
    main(*sys.argv[1:])
