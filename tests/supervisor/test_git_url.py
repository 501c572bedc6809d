"""Addresses of repositories: which are taken, and what is told of them."""

from __future__ import annotations

import pytest

from agentctl.errors import UsageError
from agentctl.supervisor.git.url import check_url, is_private, origin, repository_name, without_password


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://github.com/owner/project", "project"),
        ("https://github.com/owner/project.git/", "project"),
        ("http://127.0.0.1:8080/x.git", "x"),
        ("ssh://git@host:22/owner/project.git", "project"),
        ("git@github.com:owner/project.git", "project"),
        ("host:project", "project"),
        ("git://host/project", "project"),
        ("file:///srv/git/project.git", "project"),
        ("/srv/project/.git", "project"),
    ],
)
def test_an_address_names_its_directory(url, name):
    assert check_url(url) == url
    assert repository_name(url) == name


@pytest.mark.parametrize("url", ["https://host/", "https://host/..", "/", "https://host/-x"])
def test_an_address_without_a_name_wants_a_path(url):
    with pytest.raises(UsageError, match="how the directory"):
        repository_name(url)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://user:secret@host/x", "https://host/x"),
        ("https://secret@host/x", "https://host/x"),
        ("https://a:b@c@host/x@y", "https://host/x@y"),
        ("user:secret@host:x", "host:x"),
        ("git@host:x", "git@host:x"),
    ],
)
def test_no_password_is_told(url, shown):
    assert without_password(url) == shown


@pytest.mark.parametrize("url", ["ext::sh", "a::b", "host::x", "x", "~/repo", "./repo", "https://[::1", "http://h:x/y"])
def test_what_is_no_address_is_refused(url):
    with pytest.raises(UsageError):
        check_url(url)


def test_a_server_is_the_same_by_scheme_host_and_port():
    assert origin("https://Host/x") == origin("https://user@host:443/y") == ("https", "host", 443)
    assert len({origin(url) for url in ("http://host", "https://host", "https://host:444", "https://other")}) == 4
    assert origin("ssh://host/x") is None


def test_who_could_read_what_is_sent():
    assert not is_private("http://example.org/x")
    assert all(is_private(url) for url in ("https://example.org/x", "http://127.0.0.1:1/x", "git@host:x"))
