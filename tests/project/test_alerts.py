"""Alerts and dashboard: promtool runs the rules' tests, what is named exists, each alert says what to do."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from connectors.metrics import DECLARED

ROOT = Path(__file__).parents[2]
RULES, TESTS = ROOT / "helm/files/alerts.yaml", ROOT / "tests/alerts.yaml"
RUNBOOK = (ROOT / "docs/RUNBOOK.md").read_text()
DASHBOARD = json.loads((ROOT / "helm/files/dashboard.json").read_text())
ALERTS: list[dict[str, Any]] = [
    rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]
]
ROWS = ["Sync", "Extract", "Index", "Search", "Ephemeral", "Quota"]
# What Prometheus itself knows of each process it asks.
FOREIGN = {"up"}


def promtool() -> str:
    """Where ``scripts/setup.sh`` has put it, if not the system."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    found = shutil.which("promtool", path=f"{os.environ['PATH']}:{cache}/mailstream/prometheus/usr/bin")
    assert found, "there is no promtool: run `make setup`, or install Debian's package prometheus"
    return found


def test_promtool_accepts_the_rules_and_their_tests() -> None:
    for arguments in (("check", "rules", str(RULES)), ("test", "rules", str(TESTS))):
        done = subprocess.run([promtool(), *arguments], capture_output=True, text=True, timeout=60, cwd=ROOT)
        assert done.returncode == 0, done.stdout + done.stderr


def test_a_rule_that_fires_too_early_fails_its_test(tmp_path: Path) -> None:
    """So that the tests above are known to look."""
    eager = tmp_path / "alerts.yaml"
    eager.write_text(re.sub(r"for: \d+[mh]", "for: 0m", RULES.read_text()))
    tests = tmp_path / "tests.yaml"
    _, down, *_ = yaml.safe_load(TESTS.read_text())["tests"]  # one that asks before its time, too
    tests.write_text(yaml.safe_dump({"rule_files": ["alerts.yaml"], "tests": [down]}))
    done = subprocess.run([promtool(), "test", "rules", str(tests)], capture_output=True, timeout=60)
    assert done.returncode != 0


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: str(rule["alert"]))
def test_an_alert_has_a_severity_a_summary_and_a_section(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in {"warning", "critical"}
    assert rule["annotations"]["summary"]
    page, _, anchor = rule["annotations"]["runbook"].partition("#")
    assert page == "docs/RUNBOOK.md"
    assert anchor in _anchors(RUNBOOK)


def test_every_alert_is_tested() -> None:
    tests = yaml.safe_load(TESTS.read_text())["tests"]
    fired = {
        case["alertname"] for test in tests for case in test.get("alert_rule_test", ()) if case["exp_alerts"]
    }
    assert fired == {rule["alert"] for rule in ALERTS}


def test_alerts_and_panels_ask_for_metrics_that_exist() -> None:
    known = _exported()
    queries = [rule["expr"] for rule in ALERTS] + [
        target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", ())
    ]
    for query in queries:
        assert _names(query), query
        assert _names(query) <= known, query


def test_the_dashboard_has_its_rows_and_names_units() -> None:
    assert [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"] == ROWS
    charts = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
    assert all(panel["fieldConfig"]["defaults"]["unit"] for panel in charts)
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def _exported() -> set[str]:
    names = set(FOREIGN)
    for metric in DECLARED:
        ends = ("_bucket", "_sum", "_count") if metric.kind == "histogram" else ("",)
        names |= {metric.name + end for end in ends}
    return names


def _names(query: str) -> set[str]:
    """The metrics of a PromQL query: names that are neither functions, words of the language, nor labels."""
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\"[^\"]*\"", "", query)
    bare = re.sub(r"\b(by|on|without|ignoring|group_left|group_right)\s*\([^)]*\)", "", bare)
    words = set(re.findall(r"\b[a-z_][a-z0-9_]*\b(?!\s*\()", bare))
    return words - {"by", "on", "and", "or", "unless", "bool", "sum", "max", "min"}


def _anchors(page: str) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page, re.MULTILINE)
    return {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}
