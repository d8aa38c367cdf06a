from enum import Enum
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bloomery.core.config import Config, flatten, to_plain
from bloomery.core.errors import ConfigError
from bloomery.core.identity import canonical_json, content_key


class Inner(Config):
    depth: int = 2


class Outer(Config):
    width: int
    inner: Inner = Inner()
    names: tuple[str, ...] = ()

    def check(self) -> None:
        if self.width % self.inner.depth:
            raise self.refuse("width", f"is not a multiple of inner.depth={self.inner.depth}; {self.width + 1} would be")


class WiderOuter(Outer):
    added: bool = False


class SecondContract(Inner):
    contract = 2


class Colour(Enum):
    RED = "red"


def test_unknown_field_names_the_nearest():
    with pytest.raises(ConfigError, match=r"Outer has no field 'widht'; did you mean 'width'\?"):
        Outer(widht=4)


def test_unknown_field_unlike_any_lists_the_fields():
    with pytest.raises(ConfigError, match="the fields are width, inner, names"):
        Outer(width=4, zzz=1)


def test_missing_and_mistyped_fields_are_named_with_their_path():
    with pytest.raises(ConfigError, match=r"Outer\.width is missing"):
        Outer()
    with pytest.raises(ConfigError, match=r"Inner\.depth='deep': input should be a valid integer"):
        Outer(width=4, inner={"depth": "deep"})


def test_rules_across_fields_name_value_and_remedy():
    with pytest.raises(ConfigError, match=r"Outer\.width=3 is not a multiple of inner\.depth=2; 4 would be"):
        Outer(width=3)


def test_configs_cannot_be_changed():
    with pytest.raises(Exception, match="frozen"):
        Outer(width=4).width = 6


def test_equal_configs_hash_alike_also_with_mappings():
    class Shares(Config):
        of: dict[str, float]
        """By name."""

    one, same = Shares(of={"a": 1.0, "b": 2.0}), Shares(of={"b": 2.0, "a": 1.0})
    assert one == same
    assert hash(one) == hash(same)
    assert len({one, same, Shares(of={"a": 2.0})}) == 2


def test_replace_checks_again_and_leaves_the_original():
    outer = Outer(width=4, names=("a",))
    assert outer.replace(width=6) == Outer(width=6, names=("a",))
    assert outer.width == 4
    with pytest.raises(ConfigError):
        outer.replace(width=5)


def test_fields_at_their_default_do_not_count():
    assert content_key(Outer(width=4)) == content_key(Outer(width=4, inner=Inner(depth=2), names=()))
    assert content_key(Outer(width=4)) != content_key(Outer(width=4, inner=Inner(depth=4)))


def test_adding_an_option_with_a_default_changes_no_key():
    without, with_option = to_plain(Outer(width=4)), to_plain(WiderOuter(width=4))
    assert {k: v for k, v in with_option.items() if k != "kind"} == {k: v for k, v in without.items() if k != "kind"}


def test_bumping_the_contract_changes_the_key():
    assert to_plain(SecondContract()) == {"kind": "SecondContract", "contract": 2}


def test_a_callable_in_a_config_is_an_error_with_its_path():
    with pytest.raises(ConfigError, match=r"options\[loss\]=.*cannot be part of an identity"):
        to_plain({"loss": print}, "options")


def test_plain_data_of_each_kind():
    plain = to_plain({"path": Path("a/b"), "colour": Colour.RED, "pair": (1, None), "inner": Inner(depth=5)})
    assert plain == {"path": "a/b", "colour": "red", "pair": [1, None], "inner": {"kind": "Inner", "depth": 5}}


def test_golden_key():
    assert content_key(Outer(width=4, names=("x",))) == "17345493a945", "a key moved: every artifact in every store would be rebuilt"


def test_str_shows_what_is_not_default():
    assert str(Outer(width=4)) == "Outer(width=4)"


def test_not_a_number_has_no_identity():
    with pytest.raises(ValueError):
        canonical_json({"x": float("nan")})


leaves = st.none() | st.booleans() | st.integers() | st.text()
json_like = st.recursive(leaves, lambda children: st.lists(children) | st.dictionaries(st.text(), children), max_leaves=12)


@given(json_like)
def test_key_does_not_depend_on_the_order_of_names(plain):
    def reverse(value):
        if isinstance(value, dict):
            return {k: reverse(value[k]) for k in reversed(list(value))}
        return [reverse(v) for v in value] if isinstance(value, list) else value

    assert content_key(plain) == content_key(reverse(plain))


@given(json_like, json_like)
def test_different_data_have_different_keys(a, b):
    assert (content_key(a) == content_key(b)) == (canonical_json(a) == canonical_json(b))


def test_flatten_names_every_leaf():
    assert flatten({"a": {"b": 1, "c": []}, "d": [{"e": 2}, 3]}) == {"a.b": 1, "a.c": [], "d[0].e": 2, "d[1]": 3}
