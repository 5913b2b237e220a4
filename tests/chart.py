"""What helm makes of the chart: the manifests, what is in them, and what Kubernetes says of them."""

import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from tests.tools import tool

HELM = Path(__file__).parents[1] / "helm"
KUBERNETES = "1.37.0"
CRDS = Path(__file__).parent / "project" / "crds"

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


def kubernetes_as_files(directory: Path) -> Path:
    """Kubernetes' own schemas out of a package: what they refer to as addresses is made files again."""
    spec = find_spec("kubernetes_validate")
    assert spec is not None
    assert spec.submodule_search_locations
    packaged = Path(spec.submodule_search_locations[0]) / "kubernetes-json-schema"
    for path in (packaged / f"v{KUBERNETES}-local-strict").glob("*.json"):
        text = path.read_text().replace('"/api/_definitions', '"_definitions')
        (directory / path.name).write_text(text.replace('"$id": "https:', '"was at": "https:'))
    return directory


def conform(schemas: Path, text: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            *(str(tool("kubeconform")), "-strict", "-n", "1", "-summary", "-output", "json"),
            *("-schema-location", f"{schemas}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json"),
            *("-schema-location", f"{CRDS}/{{{{.ResourceKind}}}}-{{{{.ResourceAPIVersion}}}}.json"),
            "-",
        ],
        input=text,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
