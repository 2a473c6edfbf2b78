"""The table of layers, worst first, and the model as a tree with its numbers."""

from dataclasses import dataclass, field

from isograd.findings import Diagnosis
from isograd.records import Number, Record
from isograd.reporting import _beside as beside
from isograd.reporting._markup import Markup, join, tag
from isograd.reporting._numbers import MISSING, counted, scientific, short
from isograd.reporting._profile import Axis, Row, axis, located, rows, strains

OPEN_LINES = 60
"""A tree with more lines than this shows its upper levels only."""

_COLUMNS = (
    ("forward.rms", "forward rms"),
    ("forward.predicted", "predicted rms"),
    ("forward.over_predicted", "÷ predicted"),
    ("forward.spread", "spread"),
    ("forward.mean", "mean"),
    ("forward.correlation", "correlation"),
    ("backward.rms", "backward rms"),
    ("backward.predicted", "predicted rms"),
    ("backward.over_predicted", "÷ predicted"),
    ("weight.rms", "weight rms"),
    ("weight.gain", "gain"),
    ("weight.gain_fit", "gain that fits"),
    ("weight.grad_rms", "weight gradient"),
    ("weight.over_predicted", "÷ predicted"),
    ("weight.update_ratio", "update / weight"),
    ("forward.saturated", "flat"),
    ("forward.dead", "dead"),
    ("forward.nonfinite", "non-finite"),
)
_DECADES = ("rms", "spread", "gradient", "mean", "update / weight")


def table(diagnosis: Diagnosis) -> Markup:
    """Every site with its numbers; columns without a number are left out."""
    record = beside.joined(diagnosis.reading)
    columns = [(key, head) for key, head in _COLUMNS if record.has(key)]
    heads = ["layer", "finding", "kind", "depth", "shape", *(head for _, head in columns)]
    axes = _axes(record)
    body = []
    for row in _worst_first(diagnosis):
        site = record.sites[row.index]
        words = (
            ", ".join(map(str, row.marks)),
            site.kind,
            str(site.depth),
            "×".join(map(str, site.shape)),
        )
        cells = [_cell(_entry(record, key, row.index), key, head, axes) for key, head in columns]
        name = tag("th", site.name, scope="row")
        body.append(tag("tr", name, *(tag("td", word) for word in words), *cells))
    # Sorting is the script's; without it the heads are plain words.
    row_of_heads = [tag("th", head, scope="col") for head in heads]
    return tag(
        "table",
        tag("thead", tag("tr", *row_of_heads)),
        tag("tbody", *body),
        class_="layers",
    )


def _axes(record: Record) -> dict[str, Axis]:
    """One axis per way, on which a bar shows each rms."""
    return {key: axis(record.series.get(key, ())) for key in ("forward.rms", "backward.rms")}


def _bar(key: str, number: Number, axes: dict[str, Axis]) -> dict[str, str]:
    """Attributes that draw a bar under a rms."""
    place = axes[key].at(number) if key in axes else None
    if place is None:
        return {}
    return {"class_": f"bar {key.partition('.')[0]}", "style": f"--at:{100 * place:.0f}%"}


def _cell(number: Number, key: str, head: str, axes: dict[str, Axis]) -> Markup:
    text = scientific(number) if head.endswith(_DECADES) else short(number)
    if text in ("nan", "inf", "-inf") or (head == "non-finite" and number):
        return tag("td", text, class_="bad")
    return tag("td", text, **_bar(key, number, axes))


def _entry(record: Record, key: str, index: int) -> Number:
    """The site's own number, or that of the first weight it uses."""
    if not key.startswith("weight."):
        return record.value(key, index)
    for parameter in record.sites[index].parameters:
        if record.parameters[parameter].is_weight:
            return record.value(key, parameter)
    return None


def _worst_first(diagnosis: Diagnosis) -> list[Row]:
    """As the findings rank them; then those furthest from the median; then in order."""
    full = rows(diagnosis, every=True)
    names = located(diagnosis.reading.seen)
    rank: dict[int, int] = {}
    for finding in diagnosis.findings:
        for name in finding.sites:
            if name in names:
                rank.setdefault(names[name], len(rank))
    strain = strains(full)
    last = len(full)
    return sorted(full, key=lambda row: (rank.get(row.index, last), -strain[row.index]))


@dataclass
class _Node:
    """A module, or a site where `index` is given."""

    name: str
    index: int | None = None
    children: dict[str, "_Node"] = field(default_factory=dict)

    def sites(self) -> list[int]:
        """Indices of all sites in here, in order."""
        own = [] if self.index is None else [self.index]
        return own + [i for child in self.children.values() for i in child.sites()]

    def only(self) -> "_Node":
        """The same node, a chain of modules with one child each told as one: `model.encoder`."""
        node, names = self, [self.name]
        while node.index is None and len(node.children) == 1:
            (node,) = node.children.values()
            names.append(node.name)
        name = "".join(n if i == 0 or n.startswith(":") else f".{n}" for i, n in enumerate(names))
        return _Node(name, node.index, node.children)


@dataclass(frozen=True)
class _Drawing:
    """What every line of the tree needs."""

    record: Record
    marks: dict[int, tuple[int, ...]]
    axes: dict[str, Axis]


def tree(diagnosis: Diagnosis) -> Markup:
    """The model as nested modules, by the dots in the sites' names."""
    record = diagnosis.reading.seen
    root = _Node(str(record.fact("model.name", "model")))
    for index, site in enumerate(record.sites):
        node = root
        for part in site.name.replace(":", ".:").split("."):
            node = node.children.setdefault(part, _Node(part))
        node.index = index
    marks = {row.index: row.marks for row in rows(diagnosis, every=True)}
    drawing = _Drawing(record, marks, _axes(record))
    return tag("ul", _branch(root, drawing, _open_depth(root)), class_="tree")


def _open_depth(root: _Node) -> int:
    """How many levels can be open at first without more than OPEN_LINES lines; at least one."""
    level, lines, depth = [root], 1, 0
    while level and lines <= OPEN_LINES:
        level = [child for node in level for child in node.only().children.values()]
        lines += len(level)
        depth += 1
    return max(depth - 1, 1) if level else depth


def _branch(node: _Node, drawing: _Drawing, open_depth: int) -> Markup:
    if not node.children:
        return tag("li", _leaf(node, drawing), class_="leaf")
    found = sorted({mark for i in node.sites() for mark in drawing.marks.get(i, ())})
    about = counted(len(node.sites()), "site")
    if (size := _size(node, drawing.record)) > 0:
        about += f", {size:,} parameters"
    head = tag(
        "summary",
        tag("b", node.name),
        tag("span", about, class_="quiet"),
        _flags(found),
    )
    own = None if node.index is None else tag("li", _leaf(node, drawing), class_="leaf")
    inner = [_branch(child.only(), drawing, open_depth - 1) for child in node.children.values()]
    return tag("li", tag("details", head, tag("ul", own, *inner), open=open_depth > 0))


def _leaf(node: _Node, drawing: _Drawing) -> Markup:
    assert node.index is not None
    site = drawing.record.sites[node.index]
    numbers = [
        tag("span", tag("i", f"{key.partition('.')[0]} "), scientific(number), **bar)
        for key in drawing.axes
        if (number := drawing.record.value(key, node.index)) is not None
        for bar in [_bar(key, number, drawing.axes)]
    ]
    return join(
        tag("b", node.name),
        tag("span", f"{site.label} ", "×".join(map(str, site.shape)) or MISSING, class_="quiet"),
        _flags(drawing.marks.get(node.index, ())),
        tag("span", *numbers, class_="numbers"),
    )


def _size(node: _Node, record: Record) -> int:
    """Entries of all parameters used in here, each counted once."""
    used = {p for i in node.sites() for p in record.sites[i].parameters}
    total = 0
    for parameter in used:
        entries = 1
        for length in record.parameters[parameter].shape:
            entries *= length
        total += entries
    return total


def _flags(numbers: list[int] | tuple[int, ...]) -> Markup:
    return join(*(tag("span", str(n), class_="flag", title=f"finding {n}") for n in numbers))
