"""The chart: what it renders is valid for Kubernetes, refuses nonsense, and knows every setting both ways."""

import copy
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import click
import pytest
import yaml
from pydantic import TypeAdapter

from cli.main import mailstream
from cli.settings import Settings
from schemas import topics
from scripts.chart import generated
from tests.chart import (
    HELM,
    KUBERNETES,
    Manifest,
    conform,
    containers,
    helm,
    kubernetes_as_files,
    manifests,
    of_kind,
    pods,
    render,
)

pytestmark = pytest.mark.timeout(1800)  # helm and kubeconform may have to be built

ROOT = Path(__file__).parents[2]
EXAMPLES = HELM / "examples"
MINIMAL, EVERYTHING = EXAMPLES / "values-minimal.yaml", EXAMPLES / "values-everything.yaml"
# What the chart sets beside settings.
NOT_SETTINGS = {"HOME"}


@pytest.fixture(scope="module")
def values_file(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Writes values to a file of their own."""
    directory = tmp_path_factory.mktemp("values")

    def write(values: Mapping[str, object]) -> Path:
        path = directory / f"{len(list(directory.iterdir()))}.yaml"
        path.write_text(yaml.safe_dump(dict(values)))
        return path

    return write


@pytest.fixture(scope="module")
def kubernetes_schemas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return kubernetes_as_files(tmp_path_factory.mktemp("schemas"))


# --- settings ----------------------------------------------------------------------------------------------


def test_what_is_generated_is_current() -> None:
    for path, text in generated().items():
        assert path.read_text() == text, f"{path} is old: python scripts/chart.py"


def test_values_know_every_setting_once_and_nothing_else() -> None:
    values = yaml.safe_load((HELM / "values.yaml").read_text())
    known = [*values["settings"], *values["secrets"], *values["files"]]
    assert sorted(known) == sorted(Settings.model_fields)
    definitions = json.loads((HELM / "values.schema.json").read_text())["$defs"]
    for part in ("settings", "secrets", "files"):
        assert set(definitions[part]["properties"]) == set(values[part])


def test_no_secret_is_a_plain_value() -> None:
    secret = {name for name in Settings.model_fields if name.endswith(("_key", "_token", "_password"))}
    assert secret
    assert secret <= set(yaml.safe_load((HELM / "values.yaml").read_text())["secrets"])


@pytest.fixture(scope="module")
def every_setting() -> dict[str, Any]:
    """Values that say every setting: the defaults, and something where there is none."""
    values = yaml.safe_load((HELM / "values.yaml").read_text())
    properties = json.loads((HELM / "values.schema.json").read_text())["$defs"]["settings"]["properties"]
    for name, value in values["settings"].items():
        if value in (None, ""):
            kinds = properties[name].get("anyOf", [properties[name]])
            values["settings"][name] = (
                kinds[0].get("minimum") or kinds[0].get("enum", ["https://x.example.com"])[0]
            )
    for name in values["secrets"]:
        values["secrets"][name] = {"secret": "existing", "key": name}
    for name in values["files"]:
        values["files"][name] = {"secret": "existing", "key": name}
    values["components"]["push"]["enabled"] = True
    values["settings"]["documents_partitions"] = values["settings"][
        "topic_partitions"
    ]  # as many as share the work
    return dict(values)


@pytest.fixture(scope="module")
def rendered(every_setting: dict[str, Any], values_file: Any) -> list[Manifest]:
    """What becomes of them."""
    return manifests("--values", values_file(every_setting))


def environments(found: list[Manifest]) -> dict[str, dict[str, Any]]:
    return {
        name: {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in container["env"]}
        for name, container in containers(found)
        if "env" in container
    }


def test_every_setting_reaches_a_process_as_values_say_and_nothing_else_does(
    every_setting: dict[str, Any], rendered: list[Manifest]
) -> None:
    by_container = environments(rendered)
    reached = set().union(*by_container.values()) - NOT_SETTINGS
    assert reached == {name.upper() for name in Settings.model_fields}
    pushed = by_container["mailstream-push/push"]
    for name, value in every_setting["settings"].items():
        field = Settings.model_fields[name]
        # Each by itself: all of them at once need not go together.
        kind: Any = Annotated[(field.annotation, *field.metadata, "")]
        understood = TypeAdapter(kind).validate_python(pushed[name.upper()])
        assert understood == (Path(value) if isinstance(understood, Path) else value), name


def test_a_component_has_settings_of_its_own() -> None:
    by_container = environments(manifests("--set", "components.extract.settings.parser_processes=7"))
    assert by_container["mailstream-extract/extract"]["PARSER_PROCESSES"] == "7"
    assert by_container["mailstream-slow/slow"]["PARSER_PROCESSES"] == "2"


def test_secrets_go_by_reference_and_to_those_that_need_them(rendered: list[Manifest]) -> None:
    assert not of_kind(rendered, "Secret")
    by_container = environments(rendered)
    holders = {name.partition("/")[2] for name, known in by_container.items() if "CREDENTIALS_KEY" in known}
    assert holders == {"source", "extract", "slow", "index"}
    reference = {"secretKeyRef": {"name": "existing", "key": "credentials_key"}}
    assert by_container["mailstream-source/source"]["CREDENTIALS_KEY"] == reference
    assert {name for name, known in by_container.items() if "GOOGLE_CREDENTIALS_FILE" in known} == {
        "mailstream-push/push"
    }
    mounts = dict(containers(rendered))["mailstream-push/push"]["volumeMounts"]
    folders = [mount["mountPath"] for mount in mounts if mount.get("readOnly")]
    path = Path(by_container["mailstream-push/push"]["GOOGLE_CREDENTIALS_FILE"])
    assert str(path.parent) in folders


def test_groups_and_topics_are_those_of_the_program() -> None:
    found = of_kind(manifests("--set", "autoscaling.kind=keda"), "ScaledObject")
    asked = {
        name: {(trigger["metadata"]["consumerGroup"], trigger["metadata"]["topic"]) for trigger in scaled}
        for name, scaled in ((name, document["spec"]["triggers"]) for name, document in found.items())
    }
    assert asked == {
        "mailstream-extract": {
            (topics.EXTRACT_GROUP, topics.CHANGES.name),
            (topics.EXTRACT_GROUP, topics.BACKFILL.name),
        },
        "mailstream-slow": {(topics.SLOW_GROUP, topics.DEFERRED.name)},
        "mailstream-index": {(topics.INDEX_GROUP, topics.DOCUMENTS.name)},
    }


# --- Kubernetes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("values", [None, MINIMAL, EVERYTHING], ids=["default", "minimal", "everything"])
def test_lint(values: Path | None) -> None:
    chosen = ("--values", values) if values else ()
    done = helm("lint", "--strict", "--kube-version", KUBERNETES, HELM, *chosen)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[WARNING]" not in done.stdout


@pytest.mark.full
@pytest.mark.parametrize(
    "arguments",
    [(), ("--values", MINIMAL), ("--values", EVERYTHING), ("--set", "autoscaling.kind=hpa")],
    ids=["default", "minimal", "everything", "hpa"],
)
def test_kubernetes_takes_what_is_rendered(kubernetes_schemas: Path, arguments: tuple[Any, ...]) -> None:
    text = render(*arguments)
    done = conform(kubernetes_schemas, text)
    summary = json.loads(done.stdout)["summary"]
    assert done.returncode == 0, done.stdout
    assert summary["valid"] == sum(bool(document) for document in yaml.safe_load_all(text)) > 15


@pytest.mark.full
def test_the_examples_are_valid(kubernetes_schemas: Path) -> None:
    text = "\n---\n".join((EXAMPLES / name).read_text() for name in ("strimzi.yaml", "eck.yaml"))
    done = conform(kubernetes_schemas, text)
    assert done.returncode == 0, done.stdout
    assert json.loads(done.stdout)["summary"]["valid"] == 3


@pytest.mark.full
@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        ("Deployment", ("spec", "template", "spec", "containers", 0, "readOnlyRootFilesystem"), True),
        ("Deployment", ("spec", "replicas"), "two"),
        ("NetworkPolicy", ("spec", "egres"), []),
        ("ScaledObject", ("spec", "maxReplicas"), 3),
        ("ExternalSecret", ("spec", "target", "creationPolicy"), "Sometimes"),
        ("PodMonitor", ("spec", "endpoints"), []),
        ("PrometheusRule", ("spec", "groups"), []),
    ],
)
def test_kubernetes_refuses_what_is_wrong(
    kubernetes_schemas: Path, kind: str, path: tuple[str | int, ...], value: object
) -> None:
    right = next(iter(of_kind(manifests("--values", EVERYTHING), kind).values()))
    wrong: Any = copy.deepcopy(right)
    *parents, last = path
    place = wrong
    for step in parents:
        place = place[step]
    place[last] = value
    assert conform(kubernetes_schemas, yaml.safe_dump(right)).returncode == 0
    assert conform(kubernetes_schemas, yaml.safe_dump(wrong)).returncode == 1


# What is wrong, and the complaint that names it.
WRONG = {
    "settings.topic_partition=3": "settings: Additional property topic_partition",
    "settings.topic_partitions=0": "settings.topic_partitions: Must",
    "settings.scanner=maybe": "settings.scanner: ",
    "settings.metrics_port=0": "settings.metrics_port: Must",
    "settings.kafka_bootstrap=null": "settings: kafka_bootstrap is required",
    "settings.credentials_key=abc": "settings: Additional property credentials_key",
    "secrets.credentials_key=abc": "secrets.credentials_key: Invalid type",
    "components.extract.settings.parser_processes=0": "components.extract.settings.parser_processes: Must",
    "components.extrakt.enabled=true": "components: Additional property extrakt",
    "components.index.resources.limits.memory=much": "components.index.resources.limits.memory: ",
    "autoscaling.kind=some": "autoscaling.kind: ",
    "image.digest=latest": "image.digest: Does not match",
    "userId=0": "userId: Must",
}


def test_wrong_values_are_refused_each_by_its_name() -> None:
    done = helm("template", "mailstream", HELM, "--kube-version", KUBERNETES, "--set", ",".join(WRONG))
    assert done.returncode != 0
    assert [value for value, complaint in WRONG.items() if f"- {complaint}" not in done.stderr] == []


@pytest.mark.parametrize("component", ["extract", "source"])
def test_more_than_can_share_the_work_are_refused(component: str) -> None:
    replicas = f"components.{component}.replicas=7"
    done = helm("template", "mailstream", HELM, "--kube-version", KUBERNETES, "--set", replicas)
    assert done.returncode != 0
    assert "only 6 can share the work: settings.topic_partitions" in done.stderr


@pytest.mark.parametrize("kind", ["hpa", "keda"])
def test_scaling_stays_within_the_partitions(kind: str) -> None:
    done = helm(
        *("template", "mailstream", HELM, "--kube-version", KUBERNETES, "--set", f"autoscaling.kind={kind}"),
        *("--set", "settings.topic_partitions=4"),
    )
    assert done.returncode != 0
    assert "6 replicas, but only 4 can share the work" in done.stderr
    found = manifests("--set", f"autoscaling.kind={kind}")
    assert "replicas" not in of_kind(found, "Deployment")["mailstream-index"]["spec"]
    assert of_kind(found, "Deployment")["mailstream-source"]["spec"]["replicas"] == 2


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("settings.kafka_bootstrap=kafka", "kafka_bootstrap"),
        ("settings.elasticsearch_url=es:9200", "elasticsearch_url"),
        ("settings.kafka_security_protocol=SASL_SSL", "secrets.kafka_sasl_password names no Secret"),
    ],
)
def test_what_no_process_could_start_with_is_not_rendered(value: str, words: str) -> None:
    done = helm("template", "mailstream", HELM, "--kube-version", KUBERNETES, "--set", value)
    assert done.returncode != 0
    assert words in done.stderr


def test_index_is_scaled_by_the_documents_topic_that_is_in_use() -> None:
    """As docs/GROWTH.md leaves it: a copy with another name and more partitions."""
    grown = ("settings.documents_topic=mail.documents.v1.p12", "settings.documents_partitions=12")
    options = [part for value in grown for part in ("--set", value)]
    most = ("--set", "components.index.autoscaling.maxReplicas=12")
    found = of_kind(manifests("--set", "autoscaling.kind=keda", *options, *most), "ScaledObject")
    [trigger] = found["mailstream-index"]["spec"]["triggers"]
    assert trigger["metadata"]["topic"] == "mail.documents.v1.p12"
    most = ("--set", "components.index.replicas=13")
    done = helm("template", "mailstream", HELM, "--kube-version", KUBERNETES, *options, *most)
    assert "13 replicas, but only 12 can share the work: settings.documents_partitions" in done.stderr


def test_the_values_of_the_readme_render(values_file: Any) -> None:
    [block] = re.findall(r"^```yaml\n(.*?)^```", (HELM / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    found = manifests("--values", values_file(yaml.safe_load(block)))
    for name, container in containers(found):
        if name.endswith(("/index", "/serve")):
            given = {entry["name"] for entry in container["env"]}
            assert {"ELASTICSEARCH_API_KEY", "ELASTICSEARCH_CA_FILE"} <= given


# --- what must hold of every pod ---------------------------------------------------------------------------


def test_every_process_is_a_command_of_ours() -> None:
    for name, container in containers(manifests("--values", EVERYTHING)):
        command: click.Command = mailstream
        for word in container.get("args", ()):
            if isinstance(command, click.Group):
                found = command.get_command(click.Context(command), word)
                assert found is not None, (name, word)
                command = found
        assert "args" not in container or not isinstance(command, click.Group), name


def test_every_container_is_confined() -> None:
    found = manifests("--values", EVERYTHING)
    for name, pod in pods(found):
        security = pod["securityContext"]
        assert security["runAsNonRoot"], name
        assert security["runAsUser"] == 10001, name
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert pod["automountServiceAccountToken"] is False, name
        assert not any("hostPath" in volume for volume in pod["volumes"]), name
    for name, container in containers(found):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }, name
        assert container["resources"]["requests"].keys() == {"cpu", "memory"}, name
        assert container["resources"]["limits"].keys() == {"memory"}, name


def test_attachments_are_written_to_memory_only_and_swept() -> None:
    found = manifests("--values", EVERYTHING)
    for name, pod in pods(found):
        writers = [c for c in pod["containers"] if any(m["name"] == "ephemeral" for m in c["volumeMounts"])]
        kind = name.removeprefix("mail-")
        assert bool(writers) == (kind in {"extract", "slow", "clamd"}), name
        if not writers:
            continue
        [volume] = [volume for volume in pod["volumes"] if volume["name"] == "ephemeral"]
        assert volume["emptyDir"] == {"medium": "Memory", "sizeLimit": "1Gi"}
        assert "reap" in [container["name"] for container in writers]
        for container in writers:
            [mount] = [mount for mount in container["volumeMounts"] if mount["name"] == "ephemeral"]
            values = {entry["name"]: entry.get("value") for entry in container.get("env", ())}
            directory = Path(values.get("EPHEMERAL_DIRECTORY") or mount["mountPath"])
            assert directory.is_relative_to(mount["mountPath"])
            # The kubelet makes the mount's own directory, and it is root's: a worker refuses that.
            if container["name"] in {"extract", "slow"}:
                assert directory != Path(mount["mountPath"])


def test_extract_reaches_kafka_elasticsearch_gmail_clamd_names_and_nothing_else() -> None:
    policy = of_kind(manifests("--values", EVERYTHING), "NetworkPolicy")["mail-extract"]["spec"]
    assert set(policy["policyTypes"]) == {"Ingress", "Egress"}
    ports = [[port["port"] for port in rule["ports"]] for rule in policy["egress"]]
    assert ports == [[53, 53], [9093], [9200], [443, 993], [3310]]  # 993: Gmail over IMAP
    assert all(rule["to"] for rule in policy["egress"])
    google = policy["egress"][3]["to"][0]["ipBlock"]
    assert {"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"} <= set(google["except"])


def test_every_pod_has_a_network_policy_and_every_process_a_budget_and_probes() -> None:
    found = manifests("--values", EVERYTHING)
    policies, budgets = of_kind(found, "NetworkPolicy"), of_kind(found, "PodDisruptionBudget")
    assert policies.keys() == {name for name, _ in pods(found)}
    processes = {name for name in of_kind(found, "Deployment") if name != "mail-clamd"}
    assert budgets.keys() == processes
    by_name = dict(containers(found))
    for name in processes:
        container = by_name[f"{name}/{name.removeprefix('mail-')}"]
        ports = {port["name"] for port in container["ports"]}
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            assert container[probe]["httpGet"]["port"] in ports


def test_clamd_is_set_up_as_the_workers_demand(tmp_path: Path) -> None:
    from connectors.clamav_check import check_configuration

    found = manifests("--values", EVERYTHING)
    file = tmp_path / "clamd.conf"
    file.write_text(of_kind(found, "ConfigMap")["mail-clamd"]["data"]["clamd.conf"])
    settings = environments(found)["mail-extract/extract"]
    largest = Settings.model_fields["attachment_max_bytes"].default
    check_configuration(file, largest, Path(settings["EPHEMERAL_DIRECTORY"]))
    assert settings["CLAMD_ADDRESS"] == "mail-clamd:3310"
    assert settings["CLAMD_CONFIG"] == "/run/settings/clamd_config/clamd.conf"
