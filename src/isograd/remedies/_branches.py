"""The residual branches of a measured network: where they end, and what is in them."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from isograd.remedies._code import number
from isograd.remedies._layers import Layer, layers, readers_of
from isograd.remedies._remedy import Case
from isograd.sites import NORMS


@dataclass(frozen=True)
class Branch:
    """What one residual addition adds to its stream."""

    add: int
    """Site of the addition."""
    last: tuple[str, ...]
    """Names of weight and bias of the last layer or norm before the addition."""
    ends_in_norm: bool
    layers: tuple[Layer, ...]
    """Its weight layers, in order."""
    normed: bool
    """Whether a norm stands anywhere in it."""
    post_norm: bool
    """Whether a norm alone reads the sum."""
    ratio: float
    """Rms of the branch over that of the skip; 0 where it was not measured."""


def branches(case: Case) -> list[Branch]:
    """The branches in order; those that end in no parameter of their own are left out."""
    record = case.record
    readers = readers_of(record)
    own: dict[int, list[Layer]] = {}
    for x in layers(case):
        own.setdefault(x.site, []).append(x)
    found = []
    for index, site in enumerate(record.sites):
        if site.kind != "add" or not site.inputs:
            continue
        terms = sorted(site.inputs, key=lambda i: record.sites[i].depth)
        end = terms[-1]
        skip = terms[-2] if len(terms) > 1 else -1  # the data themselves are no site
        inside = _inside(case, skip, end)
        last = next((i for i in sorted(inside, reverse=True) if _changes(case, i)), None)
        if last is None:
            continue
        names = [record.parameters[p].name for p in record.sites[last].parameters]
        made = [x for x in own.get(last, ()) if x.computed]
        names = [n for x in made for n in (x.name, x.bias) if n] or _last_of(names)
        after = [record.sites[i].kind for i in readers[index]]
        found.append(
            Branch(
                index,
                tuple(names),
                record.sites[last].kind in NORMS,
                tuple(x for i in sorted(inside) for x in own.get(i, ())),
                any(record.sites[i].kind in NORMS for i in inside),
                bool(after) and all(kind in NORMS for kind in after),
                record.value("forward.branch_ratio", index) or 0.0,
            )
        )
    return found


def ends(case: Case, found: Sequence[Branch]) -> list[str] | str:
    """Names of the modules that end the branches; one that cannot be wrapped, if there is any."""
    names = [b.last[0].rpartition(".")[0] for b in found]
    inside = [n for n in names if _within_torchs(case.model, n)]
    return (inside or names)[0] if inside or len(set(names)) < len(names) else names


def _within_torchs(model: nn.Module, name: str) -> bool:
    """Whether torch's own layers use a module's weights without calling it."""
    above = model.get_submodule(name.rpartition(".")[0])
    return isinstance(above, (nn.MultiheadAttention, nn.TransformerEncoderLayer))


def _inside(case: Case, skip: int, end: int) -> set[int]:
    """Sites from which the end of a branch comes, as far as the skip."""
    waiting, inside = [end], set[int]()
    while waiting:
        here = waiting.pop()
        if here in inside or here <= skip:
            continue
        inside.add(here)
        waiting.extend(case.record.sites[here].inputs)
    return inside


def _changes(case: Case, site: int) -> bool:
    return bool(case.record.sites[site].parameters)


def _last_of(names: list[str]) -> list[str]:
    """Weight and bias by which a site's output is scaled: of an attention, its last projection."""
    out = [n for n in names if "out_proj" in n] if any("in_proj" in n for n in names) else names
    return sorted(out, key=lambda n: n.rpartition(".")[2] != "weight")


def growth(found: list[Branch]) -> float:
    """By what the stream's rms grows over all branches, were they independent of it."""
    total = sum(math.log1p(b.ratio**2) / 2 for b in found if math.isfinite(b.ratio))
    return math.exp(min(total, 700.0))


def fine(found: list[Branch], fewest: int, worth: float) -> str:
    """Why branches need no smaller scale; empty if the stream grows too much."""
    if len(found) < fewest:
        return f"it has {len(found)} residual branches; it is worth it from {fewest} on"
    if post_norm(found):
        return (
            "norms stand behind the residual additions, which take up any scale: see "
            "residual-deepnorm and residual-prenorm"
        )
    grows = growth(found)
    if grows < worth:
        return f"the stream grows x{number(grows)} over {len(found)} branches, which is fine"
    return ""


def unset(case: Case) -> str:
    """Why the values of weights cannot be scaled one by one; empty if they can."""
    made = next((x for x in layers(case) if x.computed), None)
    if made is None or made.computed is None:
        return ""
    return (
        f"the weight of {made.module} is computed by {made.computed.by}, so that its values are "
        "not scaled or zeroed alone; see residual-skipinit"
    )


def post_norm(found: list[Branch]) -> bool:
    """Whether norms stand behind the sums; the last sum of a pre-norm network has one too."""
    return 2 * sum(b.post_norm for b in found) > len(found)


_ASKING = re.compile(
    r"(^|[._])(q|k|query|key|q_proj|k_proj|q_lin|k_lin|to_q|to_k|wq|wk|in_proj_q|in_proj_k)(\.|$)"
)


def asks(layer: Layer) -> bool:
    """Whether it is the projection of a query or key, by the names that libraries give them."""
    return bool(_ASKING.search(layer.module.lower()))
