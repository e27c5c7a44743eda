"""What the dashboard, the alerts and docs/operations.md name must exist in the code, and mean something."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
from ruamel.yaml import YAML

from phosphene.catalog.generation_records import GenerationState
from phosphene.jobs import JobName
from phosphene.metrics import REGISTRY
from tests.deploy.test_compose import COMPOSE, HOUSE, SERVICES
from tests.services import program

DEPLOY = HOUSE / "deploy"
DASHBOARD: dict[str, Any] = json.loads((DEPLOY / "grafana" / "phosphene.json").read_text(encoding="utf-8"))
RULES: list[dict[str, Any]] = YAML(typ="safe").load((DEPLOY / "prometheus" / "alerts.yml").read_text(encoding="utf-8"))[
    "groups"
][0]["rules"]
MANUAL = (HOUSE / "docs" / "operations.md").read_text(encoding="utf-8")
SCRAPED = YAML(typ="safe").load((DEPLOY / "prometheus" / "prometheus.yml").read_text(encoding="utf-8"))
# Made by Prometheus itself.
OTHERS = {"up": {"job", "instance"}, "ALERTS": {"alertname", "alertstate"}}
ADDED = {"job", "instance"}  # to each series that is scraped


def metrics() -> dict[str, set[str]]:
    """Name every series that our processes give, each with its labels."""
    series: dict[str, set[str]] = {}
    for metric, names in REGISTRY._collector_to_names.items():
        labels = set(getattr(metric, "_labelnames", ()))
        series |= {name: labels | ({"le"} if name.endswith("_bucket") else set()) for name in names}
    return series


def expressions() -> list[str]:
    """Give every expression of the dashboard and of the alerts, with an interval where Grafana puts one."""
    told = [rule["expr"] for rule in RULES]
    told += [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", ())]
    told += [one["expr"] for one in DASHBOARD["annotations"]["list"]]
    return [one.replace("$__rate_interval", "1m") for one in told]


def parts(expression: Any) -> Iterator[Any]:  # noqa: ANN401  the parser's own, which share no class
    """Walk an expression."""
    yield expression
    for name in ("expr", "lhs", "rhs", "param", "vector_selector"):
        below = getattr(expression, name, None)
        if below is not None and not isinstance(below, str):
            yield from parts(below)
    for argument in getattr(expression, "args", None) or ():
        yield from parts(argument)


def selectors(expression: str) -> list[Any]:
    found = [part for part in parts(promql_parser.parse(expression)) if isinstance(part, promql_parser.VectorSelector)]
    assert found, expression
    return found


@pytest.mark.parametrize("expression", expressions())
def test_every_series_and_label_that_is_asked_for_is_given(expression: str) -> None:
    known = metrics() | OTHERS
    for selector in selectors(expression):
        assert selector.name in known, selector.name
        labels = known[selector.name] | ADDED
        assert {matcher.name for matcher in selector.matchers.matchers} <= labels, selector.name
    grouped = set(re.findall(r"\w+", " ".join(re.findall(r"\bby \(([^)]*)\)", expression))))
    given = set().union(*(known[selector.name] for selector in selectors(expression)))
    assert grouped <= given | ADDED


def test_every_metric_is_shown_or_alerts() -> None:
    """What nobody looks at need not be counted."""
    asked = {selector.name for expression in expressions() for selector in selectors(expression)}
    stems = {re.sub(r"_(bucket|sum|count|created)$", "", name) for name in metrics() if name.startswith("phosphene_")}
    seen = {re.sub(r"_(bucket|sum|count|created)$", "", name) for name in asked}
    assert {stem for stem in stems if stem not in seen and f"{stem}_total" not in stems | seen} == set()


def test_values_of_labels_are_those_of_the_code() -> None:
    states = {state.value for state in GenerationState}
    wanted = {
        "phosphene_generations_ended_total": ("state", states),
        "phosphene_generations_oldest_seconds": ("state", states),
        "phosphene_work_pictures": ("state", {"waiting", "leased", "lost", "retried"}),
        "phosphene_reindex_pictures": ("state", {"total", "done"}),
        "phosphene_job_seconds_count": ("outcome", {"done", "failed", "unavailable"}),
        "phosphene_jobs_sent_total": ("outcome", {"accepted", "refused"}),
        "phosphene_text_embeddings_total": ("result", {"hit", "shared", "miss"}),
    }
    for expression in expressions():
        for selector in selectors(expression):
            label, values = wanted.get(selector.name, ("", set()))
            for matcher in selector.matchers.matchers:
                if matcher.name == label:
                    assert matcher.value in values, expression
                if matcher.name == "job" and selector.name.startswith("phosphene_"):
                    assert matcher.value in set(JobName), expression


def test_routes_that_are_asked_for_are_there() -> None:
    text = "".join(file.read_text(encoding="utf-8") for file in (HOUSE / "search_api" / "routes").glob("*.py"))
    paths = set(re.findall(r'@\w+\.\w+\(\s*"([^"]+)"', text))
    for expression in expressions():
        for route in re.findall(r'route(?:=|!=|!~|=~)"([^"]+)"', expression):
            assert set(route.split("|")) <= paths, expression


def test_every_alert_has_its_row_in_the_manual() -> None:
    named = re.findall(r"^\| `(Phosphene\w+)` \|", MANUAL, flags=re.MULTILINE)
    assert sorted(named) == sorted(rule["alert"] for rule in RULES)
    for rule in RULES:
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}
        assert rule["annotations"]["summary"]


def test_the_manual_s_table_is_that_of_the_code() -> None:
    families = {family.name: family for family in REGISTRY.collect()}
    told = dict(re.findall(r"^\| `(phosphene_\w+)(?:\{[^`]*)?` \| (\w+) \|", MANUAL, flags=re.MULTILINE))
    ours = {
        f"{name}_total" if family.type == "counter" else name: family.type
        for name, family in families.items()
        if name.startswith("phosphene_")
    }
    assert told == ours
    labels = dict(re.findall(r"^\| `(phosphene_\w+)(?:\{([^}]*)\})?` \|", MANUAL, flags=re.MULTILINE))
    for name, said in labels.items():
        series = metrics().get(name) or metrics().get(f"{name}_count") or set()
        assert {one.strip() for one in said.split(",") if one.strip()} == series - {"le"}, name


def test_the_settings_that_the_manual_names_are_settings() -> None:
    from phosphene.settings import PREFIX, Settings

    named = set(re.findall(r"PHOSPHENE_[A-Z_]+[A-Z]", MANUAL))
    assert {"PHOSPHENE_LOG_FORMAT", "PHOSPHENE_METRICS_KEY", "PHOSPHENE_READY_QUEUES"} <= named
    assert named <= {PREFIX + name.upper() for name in Settings.model_fields}


def test_what_is_scraped_is_a_service_that_listens_there() -> None:
    scraped = {
        name: config["port"]
        for job in SCRAPED["scrape_configs"]
        for config in job["dns_sd_configs"]
        for name in config["names"]
    }
    assert set(scraped) == {"api", "worker", "online", "beat", "gpu-worker"}
    for name, port in scraped.items():
        service = SERVICES[name]
        if name == "api":
            assert service["command"][-1] == str(port)
        else:
            assert service["environment"]["PHOSPHENE_METRICS_PORT"] == str(port)
        assert "PHOSPHENE_METRICS_KEY" in service["environment"]
    for job in SCRAPED["scrape_configs"]:
        secret = Path(job["authorization"]["credentials_file"])
        assert secret.parent == Path("/run/secrets")
        assert secret.name in COMPOSE["secrets"]
        assert secret.name in SERVICES["prometheus"]["secrets"]


def test_files_of_the_services_are_there_and_where_they_are_looked_for() -> None:
    for config in COMPOSE["configs"].values():
        assert (HOUSE / config["file"]).is_file()
    targets = {
        COMPOSE["configs"][one["source"]]["file"]: one["target"]
        for name in ("prometheus", "grafana")
        for one in SERVICES[name]["configs"]
    }
    assert set(targets) == {config["file"] for config in COMPOSE["configs"].values()}
    assert SCRAPED["rule_files"] == [targets["deploy/prometheus/alerts.yml"]]
    assert f"--config.file={targets['deploy/prometheus/prometheus.yml']}" in SERVICES["prometheus"]["command"]
    provider = YAML(typ="safe").load((DEPLOY / "grafana" / "dashboards.yml").read_text(encoding="utf-8"))
    folder = provider["providers"][0]["options"]["path"]
    assert str(Path(targets["deploy/grafana/phosphene.json"]).parent) == folder
    source = YAML(typ="safe").load((DEPLOY / "grafana" / "source.yml").read_text(encoding="utf-8"))
    assert source["datasources"][0]["url"] == "http://prometheus:9090"
    for name in ("prometheus", "grafana"):
        assert SERVICES[name]["profiles"] == ["operations"]
        assert all(port.startswith("127.0.0.1:") for port in SERVICES[name]["ports"])


def test_the_alerts_fire_when_they_should_and_only_then() -> None:
    for arguments in (["check", "rules", "alerts.yml"], ["test", "rules", "alerts_test.yml"]):
        done = subprocess.run(
            [program("promtool", "prometheus"), *arguments],
            cwd=DEPLOY / "prometheus",
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
