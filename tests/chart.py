"""What helm makes of the chart: the manifests, and what is in them."""

import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

HELM = Path(__file__).parents[1] / "helm"
KUBERNETES = "1.37.0"

Manifest = dict[str, Any]


def helm(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("helm")), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@cache
def render(*arguments: str | Path) -> str:
    done = helm("template", "mailstream", HELM, "--kube-version", KUBERNETES, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


@cache
def manifests(*arguments: str | Path) -> list[Manifest]:
    return [document for document in yaml.load_all(render(*arguments), yaml.CSafeLoader) if document]


def of_kind(found: list[Manifest], kind: str) -> dict[str, Manifest]:
    return {document["metadata"]["name"]: document for document in found if document["kind"] == kind}


def pods(found: list[Manifest]) -> Iterator[tuple[str, Manifest]]:
    for document in found:
        if document["kind"] in ("Deployment", "Job"):
            yield document["metadata"]["name"], document["spec"]["template"]["spec"]


def containers(found: list[Manifest]) -> Iterator[tuple[str, Manifest]]:
    for name, pod in pods(found):
        for container in (*pod.get("initContainers", ()), *pod["containers"]):
            yield f"{name}/{container['name']}", container
