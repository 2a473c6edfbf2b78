"""What the tape says of the loss: which it is, what enters it, what broadcasts, what is cut."""

from typing import Any

from torch import Tensor

from isograd.sites import WEIGHTS
from isograd.sites.tape import Node, Tape

LOSSES = {
    "cross_entropy": "cross_entropy",
    "nll_loss": "nll",
    "binary_cross_entropy": "bce",
    "binary_cross_entropy_with_logits": "bce_logits",
    "mse_loss": "mse",
    "kl_div": "kl",
    "l1_loss": "l1",
    "smooth_l1_loss": "l1",
    "huber_loss": "l1",
}
_LAYOUT = frozenset(
    "view reshape flatten squeeze unsqueeze permute transpose contiguous __getitem__ to float "
    "unflatten view_as reshape_as expand t type_as".split()
)
_DIFFERENCES = frozenset("sub __sub__ __rsub__ subtract rsub".split())
_LOGARITHMS = frozenset("log log2 log1p".split())
_BOUNDING = frozenset("clamp clamp_min clamp_max clip maximum minimum add __add__ neg".split())
"""What keeps a number away from where its logarithm has none, or leads to `log1p(-p)`."""


def loss_facts(tape: Tape, loss: Node | None) -> dict[str, Any]:
    """Facts `loss.*` (kind, input_site, input_ops, critic, broadcast) and `graph.cuts`.

    Args:
        tape: after the loss was computed.
        loss: the operation that gave the loss.
    """
    if loss is None:
        return {}
    upstream = ancestors(tape, loss)
    facts: dict[str, Any] = {"graph.cuts": _cuts(tape, upstream)}
    named = named_losses(tape, loss)
    if len({LOSSES[n.op] for n in named}) > 1:
        pass  # of a sum of several kinds no chance level is known, and no targets are those of all
    elif named:
        facts["loss.kind"] = LOSSES[named[-1].op]
    elif loss.depth >= 0:
        facts["loss.kind"] = _by_formula(upstream)
    path = _main_path(tape, named[-1] if named else loss)
    facts["loss.input_ops"] = [n.op.strip("_") for n in path if n.op not in _LAYOUT]
    entering = _entering(tape, named[-1] if named else None, path)
    if entering is not None and entering.sources:
        facts["loss.input_site"] = entering.sources[-1]
    if any(n.phase == "loss" and n.kind in WEIGHTS and n.depth >= 0 for n in upstream):
        facts["loss.critic"] = True
    if entering is not None and _are_cosines(tape, entering):
        facts["output.cosines"] = True
    broadcast = _broadcast(tape, upstream)
    if broadcast:
        facts["loss.broadcast"] = broadcast
    return facts


def named_losses(tape: Tape, loss: Node) -> list[Node]:
    """The calls of torch's loss functions that a loss is made of, in order."""
    return [n for n in ancestors(tape, loss) if n.op in LOSSES and n.depth >= 0]


def made_from_targets(tape: Tape, tensor: Tensor) -> bool:
    """Whether the loss computed a tensor from the targets that came with the batch."""
    node = tape.node_of(tensor)
    return (
        node is not None and node.phase != "target" and node.index in _downstream_of_targets(tape)
    )


def softmax_facts(tape: Tape, loss: Node) -> dict[str, int]:
    """Facts `output.softmax_*`: axis, and its length, of the last softmax before the loss."""
    before = (n for n in reversed(ancestors(tape, loss)) if n.depth > 0)
    last = next((n for n in before if n.op.strip("_") in ("softmax", "log_softmax")), None)
    if last is None or last.axis is None:
        return {}
    width = last.shape[last.axis] if last.shape else 1
    return {"output.softmax_axis": last.axis, "output.softmax_width": width}


def entering_node(tape: Tape, loss: Node) -> Node | None:
    """The node of the tensor that enters the loss: the model's prediction."""
    named = named_losses(tape, loss)
    path = _main_path(tape, named[-1] if named else loss)
    return _entering(tape, named[-1] if named else None, path)


def entering_tensor(tape: Tape, loss: Node) -> Tensor | None:
    """The prediction itself, or what it is a view or copy of, if somebody still holds that."""
    node = entering_node(tape, loss)
    while node is not None:
        found = tape.tensor_of(node)
        if found is not None:
            return found
        same = node.op in _LAYOUT and node.inputs and node.inputs[0] >= 0
        node = tape.nodes[node.inputs[0]] if same else None
    return None


def ancestors(tape: Tape, node: Node) -> list[Node]:
    """The node and everything upstream of it, in order of execution."""
    seen, todo = {node.index}, [node.index]
    while todo:
        for index in tape.nodes[todo.pop()].inputs:
            if index not in seen:
                seen.add(index)
                todo.append(index)
    return [tape.nodes[index] for index in sorted(seen)]


def _main_path(tape: Tape, node: Node) -> list[Node]:
    """From just after the last weight layer to `node`, along the deepest inputs."""
    path: list[Node] = []
    current: Node | None = node
    while current is not None and current.kind not in WEIGHTS and current.inputs:
        path.append(current)
        current = max(
            (tape.nodes[i] for i in current.inputs), key=lambda n: (n.depth, -n.index), default=None
        )
        if current is not None and current.depth < 0:
            break
    return path[::-1]


def _entering(tape: Tape, named: Node | None, path: list[Node]) -> Node | None:
    first = named or next((n for n in path if n.phase == "loss"), None)
    if first is None:
        return None
    signals = [tape.nodes[i] for i in first.inputs if tape.nodes[i].depth >= 0]
    return max(signals, key=lambda n: (n.depth, n.index), default=None)


def _by_formula(upstream: list[Node]) -> str:
    """A hand-written loss, recognized by its operations."""
    inside = [n for n in upstream if n.phase == "loss"]
    if any(n.op in _LOGARITHMS and n.depth >= 0 for n in inside):
        before = {n.op.strip("_") for n in upstream}
        if "sigmoid" in before and "softmax" not in before:
            return "bce"
        if "softmax" in before:
            return "nll"
        return "bce" if _of_both_answers(upstream) else "other"
    depths = {n.index: n.depth for n in upstream}
    for node in inside:
        # Of two predictions, as the pairs of a contrastive loss, none is the target.
        pair = len(node.inputs) == 2 and all(depths[i] > 0 for i in node.inputs)
        if node.op in _DIFFERENCES and node.depth >= 0 and not pair:
            later = {n.op for n in inside if node.index in n.inputs}
            if later & {"pow", "__pow__", "square", "mul", "__mul__"}:
                return "mse"
            if later & {"abs", "__abs__"}:
                return "l1"
    return "other"


def _of_both_answers(upstream: list[Node]) -> bool:
    """Whether logarithms are taken of one and the same tensor p of the model, and of 1 - p."""
    nodes = {n.index: n for n in upstream}
    found = set()
    for node in upstream:
        if node.phase != "loss" or node.op not in _LOGARITHMS or node.depth < 0:
            continue
        current, turned = nodes[max(node.inputs, key=lambda i: nodes[i].depth)], False
        while current.phase == "loss" and current.inputs:
            if current.op not in _BOUNDING | _DIFFERENCES | _LAYOUT:
                break
            turned ^= current.op in _DIFFERENCES or current.op == "neg"
            current = nodes[max(current.inputs, key=lambda i: nodes[i].depth)]
        if current.phase == "model":
            found.add((current.index, turned))
    return any((index, not turned) in found for index, turned in found)


_PRODUCTS = frozenset("matmul __matmul__ mm bmm linear".split())
_TURNED = frozenset("T mT".split())
_SCALING = frozenset("mul __mul__ __rmul__ multiply div __truediv__ divide".split())


def _are_cosines(tape: Tape, node: Node) -> bool:
    """Whether a tensor holds products of vectors of unit length, times a number that is written."""
    node = _before_scaling(tape, node)
    if node.op == "cosine_similarity":
        return True
    factors = [_before_scaling(tape, tape.nodes[i]).op for i in node.inputs]
    return node.op in _PRODUCTS and factors == ["normalize", "normalize"]


def _before_scaling(tape: Tape, node: Node) -> Node:
    """What a tensor is a view of, or a multiple by a number."""
    while len(node.inputs) == 1 and not node.parameters and node.op in _LAYOUT | _SCALING | _TURNED:
        node = tape.nodes[node.inputs[0]]
    return node


_ELEMENTWISE = (
    _DIFFERENCES
    | frozenset(LOSSES) - {"cross_entropy", "nll_loss"}
    | frozenset("mul __mul__ __rmul__ add __add__ __radd__ div __truediv__".split())
)


def _broadcast(tape: Tape, upstream: list[Node]) -> list[list[int]] | None:
    """Shapes of a prediction and a target that stretched each other inside the loss."""
    aimed = _downstream_of_targets(tape)
    for node in upstream:
        if node.op not in _ELEMENTWISE or len(node.inputs) != 2:
            continue
        a, b = (tape.nodes[i] for i in node.inputs)
        if not (a.depth >= 0 and b.index in aimed) and not (b.depth >= 0 and a.index in aimed):
            continue
        if _entries(_stretched(a.shape, b.shape)) > max(_entries(a.shape), _entries(b.shape)):
            return [list(a.shape), list(b.shape)]
    return None


def stretches(op: str, prediction: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Whether a prediction and as many numbers of unknown origin stretch each other.

    Stricter than with targets that are known: who aligns axes on purpose (pairs of quantiles) gives
    both the same number of them.
    """
    return (
        op in _ELEMENTWISE
        and len(prediction) != len(other)
        and _entries(prediction) == _entries(other)
        and _entries(_stretched(prediction, other)) > _entries(other)
    )


def _downstream_of_targets(tape: Tape) -> set[int]:
    found: set[int] = set()
    for node in tape.nodes:
        if node.phase == "target" or any(i in found for i in node.inputs):
            found.add(node.index)
    return found


def _entries(shape: tuple[int, ...]) -> int:
    total = 1
    for size in shape:
        total *= size
    return total


def _stretched(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    width = max(len(a), len(b))
    left, right = (1,) * (width - len(a)) + a, (1,) * (width - len(b)) + b
    return tuple(max(x, y) for x, y in zip(left, right, strict=True))


def _cuts(tape: Tape, upstream: list[Node]) -> list[dict[str, Any]]:
    """Cuts on the way to the loss; without any way, all cuts."""
    on_the_way = [n for n in upstream if n.cuts]
    found = on_the_way or [n for n in tape.nodes if n.cuts]
    return [
        {
            "op": node.op.strip("_"),
            "module": node.module,
            "site": node.sources[-1] if node.sources else None,
        }
        for node in found
    ]
