"""What the parameters are for, told from records and graphs made by hand.

Their kinds, fans and layouts in real networks stand beside the numbers of the probe, in
`tests/probe/test_weights.py`.
"""

from collections.abc import Sequence

import pytest

from isograd.records import Parameter, Site
from isograd.sites.parameters import fans, feeding, following


def test_fans_of_a_layout() -> None:
    assert fans(Parameter("w", (11, 7), "linear"), False, 1) == (7, 11)
    assert fans(Parameter("w", (11, 7), "linear"), True, 1) == (11, 7)
    assert fans(Parameter("w", (6, 5, 2, 3), "conv"), False, 3) == (30, 12)
    assert fans(Parameter("w", (6, 5, 2, 3), "conv"), True, 3) == (12, 30)


def chain(kinds: str) -> list[Site]:
    """Sites that feed each other in a row; the one at i uses parameter i."""
    return [
        Site(f"{i}", kind, kind, 0, (), (i - 1,) if i else (), (i,))
        for i, kind in enumerate(kinds.split())
    ]


def parameters(kinds: Sequence[Site]) -> list[Parameter]:
    return [Parameter(site.name, (3, 5), site.kind) for site in kinds]


@pytest.mark.parametrize(
    ("kinds", "fed"),
    [
        ("linear relu conv tanh linear", ["relu", None, "tanh", None, "linear"]),
        ("linear batch_norm dropout pool gelu", ["gelu", None, None, None, None]),
        ("linear batch_norm dropout pool dropout gelu", ["linear", *[None] * 5]),  # too far
        ("linear linear relu", ["linear", "relu", None]),
        ("linear softmax relu", ["linear", None, None]),
        ("linear exp", ["linear", None]),
        ("linear glu", ["linear", None]),
        ("recurrent relu", ["linear", None]),  # what follows is outside of its loop
    ],
)
def test_the_activation_a_weight_feeds(kinds: str, fed: list[str | None]) -> None:
    sites = chain(kinds)
    assert feeding(sites, parameters(sites), following(sites)) == fed


def test_a_shared_weight_counts_for_its_last_layer() -> None:
    sites = chain("linear relu linear tanh")
    shared = [Site(s.name, s.kind, s.label, 0, (), s.inputs, (0,)) for s in sites[:3]]
    assert feeding([*shared, sites[3]], parameters(sites), following(sites))[0] == "tanh"
    assert feeding(shared, parameters(sites), following(shared))[0] == "linear"


def test_what_is_no_weight_or_is_not_used_feeds_nothing() -> None:
    sites = [Site("fc", "linear", "Linear", 1, (), (), (0, 1)), *chain("relu")]
    given = [Parameter("w", (3, 5), "linear"), Parameter("b", (3,), "bias")]
    unused = Parameter("u", (3, 5), "linear")
    assert feeding(sites, [*given, unused], following(sites)) == ["linear", None, None]
