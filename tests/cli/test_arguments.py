"""Options and overrides in any order: Hydra's own parser understands what is made of them."""

import pytest
from hydra._internal.utils import get_args_parser

from dln.cli.arguments import options_first
from dln.errors import ConfigError

pytestmark = pytest.mark.hydra


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ("a=1 -m b=2,3", {"multirun": True}),
        ("a=1 --multi b=2,3 --config-name x", {"multirun": True, "config_name": "x"}),
        ("a=1 -cn=x -cd there b=2,3", {"config_name": "x", "config_dir": "there"}),
        ("a=1 --cfg job --resolve b=2,3 -p training", {"cfg": "job", "resolve": True, "package": "training"}),
        ("a=1 --info b=2,3", {"info": "all"}),
        ("a=1 --info defaults b=2,3", {"info": "defaults"}),
        ("a=1 b=2,3", {"multirun": False}),
    ],
)
def test_overrides_may_stand_on_both_sides_of_options(words, meant):
    parsed = vars(get_args_parser().parse_args(options_first(words.split())))
    assert parsed["overrides"] == ["a=1", "b=2,3"]
    assert {name: parsed[name] for name in meant} == meant


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--max-steps 3", r"no option '--max-steps'; settings have no dashes: max_steps=VALUE"),
        ("--max_steps=3", r"no option '--max_steps'; settings have no dashes: max_steps=VALUE"),
        ("a=1 --config", r"no option '--config'"),  # which of three is not said
        ("a=1 -cn", r"-cn needs a value: -cn=VALUE"),
    ],
)
def test_what_is_no_option_is_answered_in_a_line(words, told):
    with pytest.raises(ConfigError, match=told):
        options_first(words.split())
