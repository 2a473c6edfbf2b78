"""Ways through a network: which sites lie on all of them, and which of these are closed."""

from isograd.records import Record
from isograd.sites import NORMS, WEIGHTS


def unavoidable(record: Record) -> set[int]:
    """Sites that lie on every path from an input to the output, by counting paths."""
    if not record.sites:
        return set()
    sources = [[i for i in s.inputs if 0 <= i < k] for k, s in enumerate(record.sites)]
    end = record.fact("loss.input_site")
    end = end if isinstance(end, int) and 0 <= end < len(sources) else len(sources) - 1
    arriving = [0] * len(sources)
    leaving = [0] * len(sources)
    leaving[end] = 1
    for k, before in enumerate(sources):
        arriving[k] = sum(arriving[i] for i in before) or 1
    for k in range(end, -1, -1):
        for i in sources[k]:
            leaving[i] += leaving[k]
    return {k for k in range(end + 1) if arriving[k] * leaving[k] == arriving[end]}


def closed_norms(record: Record) -> list[int]:
    """Weights of norms that are zero where nothing goes around them, so that no signal passes.

    One alone that may move opens at the first step, as a last layer of zeros does, unless what
    reads it is flat at what it gives. Two in a row keep each other from moving.

    Returns:
        Indices of the parameters, in order of execution.
    """
    everywhere = unavoidable(record)
    found, shut = list[int](), False
    for index, site in enumerate(record.sites):
        if site.kind not in NORMS or index not in everywhere:
            continue
        rms = {p: record.value("weight.rms", p) for p in site.parameters}
        zero = [p for p in rms if rms[p] == 0 and record.parameters[p].name.endswith("weight")]
        out = record.value("forward.rms", index)
        shift = max((r or 0.0 for r in rms.values()), default=0.0)
        # A norm that multiplies by 1 + weight passes its input: more comes out than a bias.
        if not zero or out is None or out > 1.001 * shift:
            continue
        found += [p for p in zero if p not in found]
        shut |= not all(record.parameters[p].trainable for p in zero)
        shut |= any(record.value("forward.dead", i) == 1 for i in record.consumers(index))
    return found if shut or len(found) > 1 else []


def dropped_outputs(record: Record) -> list[int]:
    """Sites of dropouts whose masks the loss sees entry by entry: no weight mixes them again."""
    end = record.fact("loss.input_site")
    if not isinstance(end, int) or not 0 <= end < len(record.sites):
        return []
    found, here, shape = list[int](), end, record.sites[end].shape
    while True:
        site = record.sites[here]
        if site.kind in WEIGHTS | NORMS or site.parameters or site.shape != shape:
            return found
        found += [here] if site.kind == "dropout" else []
        if len(site.inputs) != 1:
            return found
        here = site.inputs[0]
