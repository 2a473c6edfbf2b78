"""Ways through a network: which sites lie on all of them."""

from isograd.records import Record


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
