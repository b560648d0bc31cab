"""Strategies for objects nobody should send: what a CRD's schema accepts, and then something wrong with it."""

import copy
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

Json = Any
Schema = dict[str, Any]

CRDS = Path(__file__).parents[2] / "crds"

NUMBERS = (
    0,
    -1,
    1,
    2**31 - 1,
    2**31,
    2**53 + 1,
    2**63 - 1,
    2**63,
    -(2**63) - 1,
    2**64,
    -0.0,
    0.5,
    1e308,
    -1e308,
    5e-324,
)
TEXTS = (
    "",
    " ",
    "\x00",
    "\x1b[2J\x07",
    "\n2026-01-01T00:00:00.000Z ERROR   a line of its own",
    "\u202e\u2066right to left",
    "\ud800",
    "\udfff\ud800",
    "\U0001f916",
    "\u0430s\u0455istant",
    "e\u0301" * 9,
    "\u200b",
    "\ufeff",
    "..",
    "../../secrets",
    "-a",
    "9",
    "a..b",
    "a.b",
    "A",
    "true",
    "null",
    "~",
    "$(HOME)",
    "{{ .x }}",
    "{0}%s{}",
    "a=b",
    "1e400",
    "2026-01-01T00:00:00+99:99",
    "x" * 63,
    "x" * 64,
    "x" * 253,
    "x" * 254,
)

# Not among the words above: a strategy shows all that it may draw when a test fails.
long = st.sampled_from([1_000, 70_000, 300_000]).map(lambda size: "x" * size)
texts = st.sampled_from(TEXTS) | st.text(max_size=20) | long
numbers = st.sampled_from(NUMBERS) | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
scalars = st.none() | st.booleans() | numbers | texts
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4), max_leaves=8
)
free_objects = st.dictionaries(texts, anything, max_size=4)


def nested(levels: int, leaf: Json = None) -> Json:
    """Objects in objects."""
    for _ in range(levels):
        leaf = {"a": leaf}
    return leaf


KEYS = (
    "a",
    "pipecat.dev/session",
    "pipecat.dev/bot",
    "pipecat.dev/limits",
    "app.kubernetes.io/managed-by",
    "kopf.zalando.org/last-handled-configuration",
    "kubectl.kubernetes.io/last-applied-configuration",
    "foregroundDeletion",
    "x" * 63,
)
STRINGS = st.dictionaries(st.sampled_from(KEYS), st.sampled_from(TEXTS), max_size=3)
"""Labels and annotations."""

# Few sizes, far apart: what they are for is limits, ours and those of etcd (1.5 MiB) and of the API server (3 MiB).
huge = st.sampled_from(
    [
        lambda: ["x"] * 100_000,
        lambda: {f"key-{number}": number for number in range(20_000)},
        lambda: "x" * 1_000_000,
        lambda: "\U0001f916" * 100_000,
        lambda: nested(900),
    ]
).map(lambda make: make())
hostile = scalars | anything | huge


TIMES = "PIPECAT_EXAMPLES_TIMES"
"""In the environment: so many times the examples, and others each time; without it always the same few."""


def examples(count: int) -> Callable[[Any], Any]:
    """So many examples of a test that asks a real API server."""
    times = int(os.environ.get(TIMES, "0"))
    return settings(
        max_examples=count * max(1, times),
        derandomize=not times,
        database=None,
        deadline=None,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture],
    )


def schema(kind: str, part: str) -> Schema:
    """The schema of ``spec`` or ``status``, from crds/."""
    crd = yaml.safe_load((CRDS / f"{kind.lower()}.yaml").read_text())
    found: Schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"][part]
    return found


def fitting(of: Schema) -> st.SearchStrategy[Json]:
    """What a structural schema accepts, as far as it goes without its CEL rules."""
    if "enum" in of:
        return st.sampled_from(of["enum"])
    if of.get("x-kubernetes-int-or-string"):
        return st.integers(0, 2**31 - 1) | st.sampled_from(["1", "250m", "1Gi", "1e3", "0", "-1", ".5"])
    return _BY_TYPE[of["type"]](of)


def _string(of: Schema) -> st.SearchStrategy[Json]:
    if of.get("format") == "date-time":
        # All of it passes the API server's own check of the format.
        odd = ["0000-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00+23:59", "2026-01-01t00:00:00,5z"]
        return st.datetimes().map(lambda at: at.isoformat() + "Z") | st.sampled_from(
            [*odd, "2026-01-01T00:00:00+99:99", "2026-01-01T00:00:00.123456789123Z"]
        )
    shortest, longest = of.get("minLength", 0), of.get("maxLength", 300)
    if "pattern" in of:
        matching = st.from_regex(of["pattern"].replace("$", r"\Z"))
        return matching.filter(lambda text: shortest <= len(text) <= longest)
    return (st.sampled_from(TEXTS) | st.text(max_size=min(longest, 20))).filter(
        lambda text: shortest <= len(text) <= longest
    )


def _integer(of: Schema) -> st.SearchStrategy[Json]:
    bits = 31 if of.get("format") == "int32" else 63
    low, high = of.get("minimum", -(2**bits)), of.get("maximum", 2**bits - 1)
    return st.sampled_from([low, high]) | st.integers(low, high)


def _array(of: Schema) -> st.SearchStrategy[Json]:
    keys = of.get("x-kubernetes-list-map-keys")
    unique = (lambda item: tuple(item.get(key) for key in keys)) if keys else None
    return st.lists(fitting(of["items"]), max_size=min(4, of.get("maxItems", 4)), unique_by=unique)


def _object(of: Schema) -> st.SearchStrategy[Json]:
    if isinstance(values := of.get("additionalProperties"), dict):
        return st.dictionaries(
            st.sampled_from(["cpu", "memory", "example.com/gpu"]) | texts, fitting(values), max_size=3
        )
    properties = {name: fitting(below) for name, below in of.get("properties", {}).items()}
    required = set(of.get("required", ()))
    known = st.fixed_dictionaries(
        {name: properties[name] for name in sorted(required)},
        optional={name: strategy for name, strategy in properties.items() if name not in required},
    )
    if not of.get("x-kubernetes-preserve-unknown-fields"):
        return known
    return st.builds(lambda free, named: free | named, free_objects, known if properties else st.just({}))


_BY_TYPE = {
    "string": _string,
    "integer": _integer,
    "number": lambda _: numbers,
    "boolean": lambda _: st.booleans(),
    "array": _array,
    "object": _object,
}


def mostly(usual: Json, else_: st.SearchStrategy[Json]) -> st.SearchStrategy[Json]:
    """Three times in four the usual."""
    return st.integers(0, 3).flatmap(lambda quarter: else_ if quarter == 3 else st.just(usual))


def places(thing: Json, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of everything inside, at most a few hundred."""
    inside: list[tuple[Any, ...]] = [path]
    below = thing.items() if isinstance(thing, dict) else enumerate(thing) if isinstance(thing, list) else ()
    for key, value in below:
        if len(inside) > 300 or len(path) > 20:
            break
        inside += places(value, (*path, key))
    return inside


@st.composite
def spoiled(draw: st.DrawFn, fine: st.SearchStrategy[Json]) -> Json:
    """One of ``fine``, with up to two things inside changed for something else."""
    thing = copy.deepcopy(draw(fine))
    for _ in range(draw(st.integers(0, 2))):
        path = draw(st.sampled_from(places(thing)))
        value = copy.deepcopy(draw(hostile))
        if not path:
            if isinstance(thing, dict):
                thing[draw(texts)] = value
            continue
        at = thing
        for key in path[:-1]:
            at = at[key]
        at[path[-1]] = value
    return thing
