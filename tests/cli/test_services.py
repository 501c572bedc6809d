"""``--service`` and ``services`` of a spec, as a user meets them."""

import json
import os
import textwrap
from pathlib import Path

import pytest
import yaml

from tests.cli.running import agentctl
from tests.docker.support import everything_of

SPEC = """
    agent: mock
    services:
      db:
        image: postgres:15
        env: {PLACE: here, KEY: }
        healthcheck: {test: [CMD, pg_isready], interval: 2s}
      web: {image: nginx, required: false}
"""
FLAG = '{"name": "db", "required": false, "env": {"PLACE": "there"}, "healthcheck": {"test": "true", "retries": 5}}'


def test_services_of_a_spec_and_of_flags_are_merged_by_name(tmp_path):
    path = tmp_path / "spec.yaml"
    path.write_text(textwrap.dedent(SPEC))
    given = ("--service", "db=postgres:16", "--service", FLAG, "--service", "cache=redis", "--print-config")
    done = agentctl("sessions", "create", "--spec", str(path), *given, env={"KEY": "canary-1f2e"})
    assert "canary" not in done.out
    services = yaml.safe_load(done.out)["services"]
    assert services["db"] == {
        "image": "postgres:16",
        "required": False,
        "env": {"PLACE": "there", "KEY": None},
        "healthcheck": {"test": "true", "interval": 2.0, "retries": 5},
    }
    assert services["web"] == {"image": "nginx", "required": False}
    assert services["cache"] == {"image": "redis"}
    path.write_text(done.out)
    assert agentctl("sessions", "create", "--spec", str(path), "--print-config").out == done.out


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("db", "is not NAME=IMAGE"),
        ("My_Db=x", "'My_Db' cannot name a service"),
        ("sandbox=x", "'sandbox' cannot name a service"),
        ('{"image": "x"}', "has no name"),
        ('{"name": "db"}', "The service db has no image"),
        ('{"name": "db", "image": "x", "imge": "y"}', "there is no key 'imge' in services.db"),
        ('{"name": "db", "image": "x", "healthcheck": {"retries": 2}}', "has no 'test'"),
        ('{"name": "db", "image": "x", "memory": "lots"}', "lots is not a size"),
        ('{"name": "db", "image": "x", "cpus": 0}', "has to be more than 0"),
        ('{"name": "db", "image": "x", "command": []}', "services.db.command is empty"),
        ('{"name": "db", "image": "x", "env": {"NOT_SET_HERE": null}}', "NOT_SET_HERE"),
        ('{"name": "db"', "is not JSON"),
    ],
)
def test_what_is_wrong_with_a_service_is_told_and_nothing_is_made(given, message, rows):
    done = agentctl("sandboxes", "create", "--provider", "docker", "--image", "x", "--service", given)
    assert done.code == 2, done
    assert message in done.err
    assert not (Path(os.environ["AGENTCTL_STATE_DIR"]) / "agentctl.db").exists() or not rows("select * from sandboxes")


def test_a_provider_without_services_says_who_has_them():
    done = agentctl("sandboxes", "create", "--service", "db=x")
    assert (done.code, "has no --service" in done.err, "docker" in done.err) == (2, True, True), done


WEB = """
    services:
      web:
        image: {image}
        env: {{PASSWORD: }}
        command: echo serving; exec python3 -m http.server 8000 --directory /etc
        healthcheck: {{test: wget -qO- http://localhost:8000/nsswitch.conf, interval: 1s}}
        post_start: [sh, -c, wget -qO fetched http://web:8000/nsswitch.conf]
      bad: {{image: {image}, command: [sh, -c, echo out of luck; exit 3], required: false}}
"""


@pytest.mark.slow
def test_a_sandbox_tells_of_its_services(docker, docker_api, docker_image, tmp_path):
    path = tmp_path / "spec.yaml"
    path.write_text(textwrap.dedent(WEB.format(image=docker_image)))
    made = agentctl("sandboxes", "create", "--id", "box", "--spec", str(path), env={"PASSWORD": "canary-1f2e"})
    assert made.code == 0, made
    assert "The service web is ready." in made.err
    assert "bad failed: it ended with exit code 3. Its log: agentctl sandboxes logs box --service bad" in made.err
    again = agentctl("sandboxes", "create", "--id", "box", "--spec", str(path), env={"PASSWORD": "canary-1f2e"})
    assert (again.code, "service" in again.err) == (0, False), again
    assert agentctl("sandboxes", "exec", "box", "--", "head", "-c5", "fetched").out == "hosts"
    got = agentctl("sandboxes", "get", "box", "--json")
    statuses = {name: service["status"] for name, service in got.data["services"].items()}
    assert statuses == {"web": "ready", "bad": "failed"}
    assert "canary" not in got.out
    assert "exit code 3" in agentctl("sandboxes", "get", "box").out
    assert "serving\n" in agentctl("sandboxes", "logs", "box", "--service", "web").out
    missing = agentctl("sandboxes", "logs", "box", "--service", "wb")
    assert (missing.code, "It has: web, bad." in missing.err) == (4, True), missing
    docker_api.kill(f"agentctl-{got.data['id']}-web")
    assert agentctl("sandboxes", "get", "box", "--json").data["services"]["web"]["status"] == "failed"
    events = agentctl("sandboxes", "events", "box", "--json").events
    told = [(event["type"], event["data"]["service"]) for event in events if event["type"].startswith("service.")]
    assert told == [("service.ready", "web"), ("service.failed", "bad"), ("service.failed", "web")]
    assert "canary" not in str(events)
    assert agentctl("sandboxes", "restart", "box").code == 0
    assert agentctl("sandboxes", "get", "box", "--json").data["services"]["web"]["status"] == "ready"
    assert agentctl("sandboxes", "delete", "box", "--yes").code == 0
    assert everything_of(docker_api, docker)[0] == []


def test_a_sandbox_whose_service_fails_is_not_made(docker, docker_api, docker_image):
    bad = f'{{"name": "db", "image": "{docker_image}", "command": "echo out of luck; exit 3"}}'
    done = agentctl("sandboxes", "create", "--id", "box", "--service", bad)
    assert done.code == 8, done
    assert "The service db failed: it ended with exit code 3. Its log ends with:\n  out of luck\n" in done.err
    assert agentctl("sandboxes", "list", "--json").data == []
    assert everything_of(docker_api, docker)[0] == []
    none = agentctl("run", "--agent", "mock", "--network", "none", "--service", f"db={docker_image}", "hello")
    assert (none.code, "--network isolated" in none.err) == (2, True), none


@pytest.mark.slow
def test_a_session_has_its_services_from_the_first_command_and_again_after_its_sandbox_was_killed(
    docker, docker_api, docker_image
):
    check = {"test": "wget -qO- http://localhost:8000/group"}
    serve = "exec python3 -m http.server 8000 -d /etc"
    web = json.dumps({"name": "web", "image": docker_image, "command": serve, "healthcheck": check})
    fetch = "wget -qO- http://web:8000/nsswitch.conf > got"
    given = ("--agent", "mock", "--permissions", "allow", "--service", web, "--pre-start", fetch)
    done = agentctl("run", "--session", "work", *given, '@sh!="cat got"')
    assert (done.code, "hosts: files dns" in done.out) == (0, True), done
    for container in docker_api.containers(filters={"label": f"agentctl.installation={docker}"}):
        docker_api.remove_container(container["Id"], force=True)
    done = agentctl("run", "--session", "work", f'@sh!="rm got; {fetch}; cat got"')
    assert (done.code, "hosts: files dns" in done.out) == (0, True), done
    assert agentctl("sessions", "delete", "--yes", "work").code == 0
    assert everything_of(docker_api, docker)[0] == []
