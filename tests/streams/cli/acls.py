"""The commands of deploy/SECURITY.md, carried out: what is written there is what the tests run with."""

from __future__ import annotations

import re
import shlex
from argparse import ArgumentParser
from pathlib import Path

from kafka import KafkaAdminClient
from kafka.admin import (
    ACL,
    ACLOperation,
    ACLPermissionType,
    ACLResourcePatternType as PatternType,
    ResourcePattern,
    ResourceType,
)

from tests.secure_broker import SecureKafkaNode

DOCUMENT = Path(__file__).parents[3] / "deploy" / "SECURITY.md"


def documented() -> list[ACL]:
    """One for each principal, operation and resource."""
    parser = ArgumentParser(exit_on_error=True)
    parser.add_argument("--allow-principal", required=True)
    for name in ("operation", "topic", "group", "transactional-id"):
        parser.add_argument(f"--{name}", action="append", default=[])
    parser.add_argument("--resource-pattern-type", choices=["literal", "prefixed"], default="literal")
    found = []
    for line in re.findall(r"^\$acls (.*)$", DOCUMENT.read_text(), re.MULTILINE):
        given = parser.parse_args(shlex.split(line))
        resources = [(ResourceType.TOPIC, name) for name in given.topic]
        resources += [(ResourceType.GROUP, name) for name in given.group]
        resources += [(ResourceType.TRANSACTIONAL_ID, name) for name in given.transactional_id]
        for kind, name in resources:
            pattern = ResourcePattern(kind, name, PatternType[given.resource_pattern_type.upper()])
            for operation in given.operation:
                operation = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", operation).upper()  # DescribeConfigs
                found.append(
                    ACL(
                        given.allow_principal,
                        "*",
                        ACLOperation[operation],
                        ACLPermissionType.ALLOW,
                        pattern,
                    )
                )
    return found


def allow(node: SecureKafkaNode, acls: list[ACL]) -> None:
    """Creates them as the administrator."""
    admin = KafkaAdminClient(bootstrap_servers=node.bootstrap_servers, **node.security().options())
    try:
        outcome = admin.create_acls(acls)
        assert not outcome["failed"], outcome
    finally:
        admin.close()
