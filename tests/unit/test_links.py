"""Links to the dashboard: direct, and through the proxies that notebooks have."""

from __future__ import annotations

import pytest

from covey import config
from covey.dashboard.access import host_is_ours, same_origin
from covey.dashboard.launch import link
from covey.dashboard.links import Link, address, names
from covey.errors import UsageError
from covey.secret import Secret

PLACE = "127.0.0.1:8790"
HUB = {"JUPYTERHUB_SERVICE_PREFIX": "/user/ada/"}
EDITOR = {"VSCODE_PROXY_URI": "https://code.example.org/proxy/{{port}}/"}


def test_where_there_is_no_proxy_it_is_the_place_itself():
    assert address(PLACE, {}) == "http://127.0.0.1:8790/status"
    assert address("[::1]:87", {}) == "http://[::1]:87/status"


@pytest.mark.parametrize(
    ("environment", "there"),
    [
        (HUB, "/user/ada/proxy/8790/status"),
        (EDITOR, "https://code.example.org/proxy/8790/status"),
    ],
)
def test_proxies_are_found_out(environment, there):
    assert address(PLACE, environment) == there


def test_a_setting_says_it_with_variables_of_the_environment():
    template = "https://{SITE}/{port}/{host}"
    with config.override(dashboard__link=template):
        assert (
            address(PLACE, {"SITE": "a.org", **HUB}) == "https://a.org/8790/127.0.0.1"
        )
        with pytest.raises(UsageError, match=r"dashboard\.link .* does not fit"):
            address(PLACE, {})


@pytest.mark.parametrize("wrong", ["{", "{0}", "{host.x}", "{}"])
def test_a_template_that_cannot_be_read_is_refused_in_words(wrong):
    with config.override(dashboard__link=wrong), pytest.raises(UsageError):
        address(PLACE, {})


def test_hosts_of_proxies_are_let_in_and_no_others():
    hub = {"JUPYTERHUB_PUBLIC_URL": "https://Hub.example.org/hub/"}
    with config.override(dashboard__names="one.org, two.org"):
        known = names({**EDITOR, **hub})
    assert known == {"one.org", "two.org", "code.example.org", "hub.example.org"}
    assert names({"VSCODE_PROXY_URI": "http://[broken"}) == frozenset()
    assert host_is_ours("hub.example.org:443", known)
    assert not host_is_ours("evil.example.org", known)
    assert same_origin("https://hub.example.org", "127.0.0.1:8790", known)
    assert not same_origin("https://evil.example.org", "127.0.0.1:8790", known)
    assert not same_origin("null", "127.0.0.1:8790", known)


def test_a_notebook_shows_something_to_click_that_hides_the_code():
    made = link(Secret.fresh(), PLACE)
    assert isinstance(made, Link) and "?code=" in made
    html = made._repr_html_()
    assert f'href="{made}"' in html and ">http://127.0.0.1:8790/status</a>" in html
    assert "<b>" not in Link("<b>")._repr_html_()
