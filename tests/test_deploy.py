"""The files of ``deploy/`` are well-formed, and name only commands, flags and extras that there are."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from searchrl.cli import main

DEPLOY = Path(__file__).parents[1] / "deploy"


def flags_of(command: str) -> set[str]:
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown), contextlib.suppress(SystemExit):
        main([command, "--help"])
    return set(re.findall(r"--[a-z][a-z0-9-]*", shown.getvalue()))


def check_command(words: list[str]) -> None:
    known = flags_of(words[0])
    assert known, words[0]
    assert {word for word in words[1:] if word.startswith("--")} <= known | {"--help"}


@pytest.mark.parametrize("name", ["Dockerfile", "Dockerfile.cuda"])
def test_images_install_extras_that_are_there(name: str) -> None:
    text = re.sub(r"\\\n\s*", " ", (DEPLOY / name).read_text())
    steps = [line.split(None, 1) for line in text.splitlines() if line.strip() and not line.startswith("#")]
    assert {step for step, _ in steps} <= {
        "FROM",
        "RUN",
        "WORKDIR",
        "COPY",
        "USER",
        "ENV",
        "EXPOSE",
        "ENTRYPOINT",
        "CMD",
    }
    extras = tomllib.loads((DEPLOY.parent / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    asked = re.search(r'"\.\[([a-z,]+)\]"', text)
    assert asked
    assert set(asked[1].split(",")) <= set(extras)
    check_command(yaml.safe_load(dict(steps)["CMD"]))


def test_compose_serves_what_the_command_line_knows() -> None:
    content: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    services = content["services"]
    check_command(services["searchrl"]["command"])
    for name, service in services.items():
        assert all(other in services for other in service.get("depends_on", [])), name
        named = [volume.partition(":")[0] for volume in service.get("volumes", [])]
        assert set(named) <= set(content["volumes"])
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), "not open to every network"


def test_the_cluster_is_what_its_comment_says() -> None:
    text = (DEPLOY / "kuberay.yaml").read_text()
    cluster, *claims = yaml.safe_load_all(text)
    assert cluster["kind"] == "RayCluster"
    groups = [cluster["spec"]["headGroupSpec"], *cluster["spec"]["workerGroupSpecs"]]
    named = {claim["metadata"]["name"] for claim in claims}
    for group in groups:
        pod = group["template"]["spec"]
        assert {volume["persistentVolumeClaim"]["claimName"] for volume in pod["volumes"]} == named
    command = next(line for line in text.splitlines() if "searchrl train" in line)
    check_command(shlex.split(command.lstrip("# "))[1:])
