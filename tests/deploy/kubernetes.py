"""Reads the resources of deploy/kubernetes, and holds them against the published schemas."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

KUBERNETES = Path(__file__).parents[2] / "deploy/kubernetes"
OVERLAYS = ("single", "production")
CUSTOM: dict[str, Any] = json.loads(Path(__file__).with_name("custom_resources.json").read_text())["schemas"]
VERSION = "1.34"  # of the schemas: the oldest that Kubernetes' own project still mends
FILES = sorted(path for path in KUBERNETES.rglob("*.yaml") if path.name != "kustomization.yaml")
Resource = dict[str, Any]


def resources(path: Path) -> list[Resource]:
    return list(yaml.safe_load_all(path.read_text()))


def everything() -> list[Resource]:
    """All resources of all files, as they are before an overlay changes them."""
    return [each for path in FILES for each in resources(path)]


def of_kind(kind: str, among: list[Resource] | None = None) -> list[Resource]:
    return [each for each in (everything() if among is None else among) if each["kind"] == kind]


def the(kind: str, name: str, among: list[Resource] | None = None) -> Resource:
    (found,) = (each for each in of_kind(kind, among) if each["metadata"]["name"] == name)
    return found


def composed(overlay: str) -> list[Resource]:
    """What would be applied; skips the test where no program makes it."""
    programs = {"kustomize": ["kustomize", "build"], "kubectl": ["kubectl", "kustomize"]}
    command = next((words for name, words in programs.items() if shutil.which(name)), None)
    if command is None:
        pytest.skip("neither kustomize nor kubectl is installed")
    done = subprocess.run([*command, KUBERNETES / "overlays" / overlay], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def closed(schema: Any) -> Any:
    """The schema that allows no field it does not name: an API server would drop such a field without a word."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made = {name: closed(each) for name, each in schema.items()}
    if isinstance(schema.get("properties"), dict) and not schema.get("x-kubernetes-preserve-unknown-fields"):
        made.setdefault("additionalProperties", False)
    return made


def check(resource: Resource) -> None:
    """Raises jsonschema's error, or that of kubernetes-validate."""
    if resource["kind"] not in CUSTOM:
        kubernetes_validate.validate(resource, VERSION, strict=True)
        return
    published = CUSTOM[resource["kind"]]
    assert resource["apiVersion"] == published["apiVersion"]
    schema = closed(published["schema"])
    schema["properties"]["metadata"] = {"type": "object"}
    jsonschema.Draft202012Validator(schema).validate(resource)
