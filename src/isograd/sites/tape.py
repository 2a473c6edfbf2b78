"""The tape: what a forward does, operation by operation, and which module does it.

Torch functions are seen by a TorchFunctionMode and module calls by torch's global module hooks,
so that no module and no tensor is changed.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.nn.utils.parametrize import is_parametrized
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakIdRef

from isograd.sites import WEIGHTS, kind_of_function
from isograd.sites._noting import CUTTING, Quiet, axis_of, channels, cuts, has_stranger, merge
from isograd.sites.batches import Batch, listed, tensors
from isograd.sites.eager import eagerly
from isograd.sites.tree import Modules, modules_of, named_parameters

_TURNING = frozenset("t T mT transpose swapaxes swapdims".split())
"""Ops after which a weight matrix is still one, read the other way round."""
_NOT_READ = frozenset("shape dtype device requires_grad grad grad_fn is_leaf ndim layout".split())


@dataclass(slots=True)
class Node:
    """One operation, or one tensor that came from outside."""

    index: int
    op: str
    kind: str | None
    module: str
    inputs: tuple[int, ...]
    depth: int = 0
    """Weight layers passed; -1 for tensors that do not depend on the model's inputs."""
    sources: tuple[int, ...] = ()
    """Indices of the nearest sites upstream, or of its own site."""
    channels: bool = False
    """Whether units are on axis 1 (convolutional layout) rather than on the last axis."""
    shape: tuple[int, ...] = ()
    parameters: tuple[int, ...] = ()
    site: int | None = None
    phase: str = "model"
    """input, target, constant, model or loss."""
    axis: int | None = None
    """Of a softmax: the axis it normalizes, counted from the front."""
    cuts: bool = False
    """Whether the result lost its connection to a graph that an input had."""


@dataclass(slots=True)
class Frame:
    """One module call under way."""

    module: nn.Module
    path: str
    start: int
    opaque: bool
    arguments: tuple[Any, ...] = ()
    handled: BaseException | None = None
    """The exception under treatment when the call began."""
    sites: list[int] = field(default_factory=list)
    calls: int = 0


class Listener(Protocol):
    """Who takes numbers while the tape runs."""

    def before(self, tape: "Tape", name: str, kind: str | None, call: "Call", /) -> None:
        """Called before an operation, while an in-place one has not yet overwritten its input."""

    def after(self, tape: "Tape", node: Node, out: Tensor, call: "Call", /) -> None:
        """Called after an operation with its first output tensor."""

    def returned(self, tape: "Tape", frame: Frame, node: Node, out: Tensor, /) -> None:
        """Called when a module call has returned, with its first output tensor."""


@dataclass(slots=True)
class Call:
    """One call of a torch function."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    tensors: list[Tensor]


class Tape(TorchFunctionMode):
    """Records operations and module calls between `recording()` and its end."""

    def __init__(
        self, model: nn.Module, listener: Listener, modules: Modules | None = None
    ) -> None:
        super().__init__()
        self.model = model
        self.listener = listener
        self.nodes: list[Node] = []
        modules = modules or modules_of(model)
        self.paths = {id(module): name for name, module in modules}
        self.named = named = named_parameters(modules)
        """Parameters of the model by their names, once each."""
        self.parameters = {id(p): i for i, (_, p) in enumerate(named)}
        self._names = {name: i for i, (name, _) in enumerate(named)}
        self.stack: list[Frame] = []
        self.deepest: Frame | None = None
        """Where an exception was raised: the innermost module call that did not return."""
        self.phase = "model"
        self.called: set[int] = set()
        """Identities of the modules that were called."""
        self.unregistered: list[Node] = []
        """Weight layers whose trainable weights are not parameters of the model."""
        self.deaf = False
        """Whether operations and calls pass unseen from now on."""
        self.on_fault: Callable[[Exception], None] | None = None
        """Takes what goes wrong in here, where somebody's training must go on all the same."""
        self._of: dict[int, tuple[WeakIdRef, int]] = {}
        """Tensors by identity, and the index of the node that made each."""
        self._busy = False

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Records what happens inside, compiled modules run eagerly."""
        with ExitStack() as stack:
            stack.enter_context(eagerly())
            stack.enter_context(self.hooked())
            stack.enter_context(self)
            yield

    @contextmanager
    def hooked(self) -> Iterator[None]:
        """Sees module calls inside; operations only while the tape itself is entered, too."""
        entering = register_module_forward_pre_hook(self._enter)
        # Also called when the module raises: the model itself may catch that and go on.
        leaving = register_module_forward_hook(self._leave, always_call=True)
        try:
            yield
        finally:
            entering.remove()
            leaving.remove()

    def node_of(self, tensor: Tensor) -> Node | None:
        """The operation that made a tensor, as far as the tape saw it."""
        found = self._of.get(id(tensor))
        if found is None or found[0]() is not tensor:
            local = getattr(tensor, "_local_tensor", None)  # distributed out of sight
            return None if local is None else self.node_of(local)
        return self.nodes[found[1]]

    def tensor_of(self, node: Node) -> Tensor | None:
        """The tensor an operation made, if somebody still holds it."""
        return next(
            (t for ref, at in self._of.values() if at == node.index and (t := ref()) is not None),
            None,
        )

    def take(self, batch: Batch) -> None:
        """Registers the tensors of a batch: inputs, and targets that are not inputs themselves."""
        with self.quiet():
            for tensor in batch.inputs():
                known = self.node_of(tensor)
                if known is None or known.depth < 0:  # else another call of the model made it
                    self.introduce(tensor, "input")
            for tensor in tensors(batch.targets):
                if self.node_of(tensor) is None:  # an autoencoder's targets are its inputs
                    self.introduce(tensor, "target")

    def introduce(self, tensor: Tensor, phase: str) -> Node:
        """Registers a tensor that comes from outside: input, target or constant."""
        node = Node(
            len(self.nodes), phase, None, "", (), 0 if phase == "input" else -1, phase=phase
        )
        node.shape = tuple(tensor.shape)
        node.channels = tensor.ndim in (4, 5)
        return self._register(node, tensor)

    def _register(self, node: Node, tensor: Tensor) -> Node:
        self.nodes.append(node)
        self.made(tensor, node.index)
        if (local := getattr(tensor, "_local_tensor", None)) is not None:
            self.made(local, node.index)  # what a process goes on with, made out of sight
        return node

    def made(self, tensor: Tensor, index: int) -> None:
        """Notes which node a tensor is from."""
        self._of[id(tensor)] = WeakIdRef(tensor), index

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Runs one torch function and notes it."""
        kwargs = kwargs or {}
        if self._busy or self.deaf or torch._C._functorch.peek_interpreter_stack() is not None:
            return func(*args, **kwargs)  # inside vmap and grad, tensors are not what they seem
        name = getattr(func, "__name__", "")
        if name == "__get__":
            name = getattr(getattr(func, "__self__", None), "__name__", "")
            if name in _NOT_READ:
                return func(*args, **kwargs)
        call = Call(func, args, kwargs, listed(args, kwargs))
        kind = kind_of_function(name)
        if kind == "hardtanh" and (*args, *kwargs.values())[1:3] == (0.0, 6.0):
            kind = "relu6"  # what torch's ReLU6 calls
        if kind is not None:
            with self.quiet():
                self.listener.before(self, name, kind, call)
        out = func(*args, **kwargs)
        made = args[0] if name == "__setitem__" else out
        results = list(tensors(made)) if not isinstance(made, Tensor) else [made]
        if results and call.tensors:
            with self.quiet():
                self._note(name, kind, call, results)
        elif name in CUTTING and call.tensors and any(t.requires_grad for t in call.tensors):
            self._cut_to_python(name, call)
        return out

    def quiet(self) -> Quiet:
        """Lets the tape's own arithmetic pass unseen, without gradients or autocast."""
        return Quiet(self)

    def adopt(self, module: nn.Module, nodes: Sequence[Node]) -> None:
        """Takes the operations of a call of a module on another tape, at the same place."""
        if self.stack:
            self.stack[-1].calls += 1
        self.called.add(id(module))
        self.nodes += nodes

    def _note(self, name: str, kind: str | None, call: Call, results: list[Tensor]) -> None:
        for tensor in call.tensors:
            if isinstance(tensor, nn.Parameter) and id(tensor) not in self.parameters:
                self._recognize(tensor)
        parameters = tuple(self.parameters[id(t)] for t in call.tensors if id(t) in self.parameters)
        known: list[Node] = []
        for tensor in call.tensors:
            if id(tensor) in self.parameters:
                continue
            known.append(self.node_of(tensor) or self._stranger(tensor))
        signals = [node for node in known if node.depth >= 0]
        if kind in ("matmul", "linear"):
            turned = [n for n in known if n.op in _TURNING and n.parameters and not n.inputs]
            parameters += tuple(index for n in turned for index in n.parameters)
        if kind == "matmul":
            kind = "linear" if parameters or self._made_from_parameters(known) else None
        if kind in ("conv", "linear") and not signals:
            kind = None
        depth = max((node.depth for node in signals), default=-1)
        if depth >= 0 and kind in WEIGHTS:
            depth += 2 if kind == "attention" else 1
        if depth < 0 and kind == "embedding":
            depth = 0
        first = results[0]
        node = Node(
            len(self.nodes),
            name,
            kind,
            self.stack[-1].path if self.stack else "",
            tuple(node.index for node in known),
            depth,
            merge(signals),
            channels(kind, first, signals),
            tuple(first.shape),
            parameters,
            phase=self.phase,
            axis=axis_of(call, first) if kind in ("softmax", "log_softmax") else None,
            cuts=cuts(name, call.tensors, first),
        )
        for tensor in results[1:]:
            self.made(tensor, node.index)
        self._register(node, first)
        strange = kind in WEIGHTS and has_stranger(call, self.parameters, known)
        if strange and first.requires_grad and self.phase == "model":  # a loss may have a critic
            self.unregistered.append(node)
        if first.is_floating_point() or first.is_complex():
            self.listener.after(self, node, first, call)

    def _recognize(self, tensor: Tensor) -> None:
        """Takes what stands in for a parameter while its module runs (gathered shards) as it."""
        if self.stack:
            frame = self.stack[-1]
            for key in (k for k, p in frame.module._parameters.items() if p is tensor):
                if (index := self._names.get(f"{frame.path}.{key}".lstrip("."))) is not None:
                    self.parameters[id(tensor)] = index

    def _stranger(self, tensor: Tensor) -> Node:
        """A tensor made out of sight: a constant, or what a custom function made of the signal."""
        if tensor.grad_fn is None or not self.stack:
            return self.introduce(tensor, "constant")
        return self._unseen(self.stack[-1], self.stack[-1].arguments, tensor)

    def _made_from_parameters(self, known: list[Node]) -> bool:
        """Whether a factor is a parameter in other clothes: transposed, normalized, masked."""
        return any(n.depth < 0 and len(n.shape) >= 2 and self._parameters_of(n) for n in known)

    def _parameters_of(self, node: Node, hops: int = 8) -> tuple[int, ...]:
        found = node.parameters
        if hops:
            for index in node.inputs:
                found += self._parameters_of(self.nodes[index], hops - 1)
        return found

    def _cut_to_python(self, name: str, call: Call) -> None:
        node = self.node_of(call.tensors[0])
        if node is not None:
            path = self.stack[-1].path if self.stack else ""
            cut = Node(len(self.nodes), name, None, path, (node.index,), -1, phase=self.phase)
            cut.cuts = True
            self.nodes.append(cut)

    def _enter(self, module: nn.Module, args: Any) -> None:
        if self._busy or self.deaf:
            return
        if self.stack:
            self.stack[-1].calls += 1
        path = self.paths.get(id(module))
        if path is None:
            inner = f"{self.stack[-1].path}.{type(module).__name__}" if self.stack else ""
            path = inner.lstrip(".")
        self.called.add(id(module))
        opaque = bool(self.stack and self.stack[-1].opaque) or is_opaque(module)
        handled = sys.exception()
        self.stack.append(Frame(module, path, len(self.nodes), opaque, args, handled))
        self.deepest = self.stack[-1]

    def _leave(self, module: nn.Module, args: Any, output: Any) -> None:
        if self._busy or self.deaf or not self.stack:
            return
        while self.stack and self.stack[-1].module is not module:
            self.stack.pop()  # a call that was left in a way that no hook sees
        if not self.stack:
            return
        frame = self.stack.pop()
        if sys.exception() is not frame.handled:
            return  # it raised
        self.deepest = self.stack[-1] if self.stack else None
        with self.quiet():
            found = tensors(output)
            first = next((t for t in found if t.is_floating_point() or t.is_complex()), None)
            if first is None:
                return
            node = self.node_of(first)
            if node is None:  # made out of sight: a scripted module, a custom autograd function
                node = self._unseen(frame, args, first)
            self.listener.returned(self, frame, node, first)

    def _unseen(self, frame: Frame, args: Any, out: Tensor) -> Node:
        known = [node for t in tensors(args) if (node := self.node_of(t)) is not None]
        signals = [node for node in known if node.depth >= 0]
        own = tuple(
            self.parameters[id(p)] for p in frame.module.parameters() if id(p) in self.parameters
        )
        depth = max((node.depth for node in signals), default=-1)
        weighty = any(p.ndim >= 2 for p in frame.module.parameters())
        node = Node(
            len(self.nodes),
            type(frame.module).__name__,
            None,
            frame.path,
            tuple(node.index for node in known),
            depth + 1 if weighty and depth >= 0 else depth,
            merge(signals),
            channels(None, out, signals),
            tuple(out.shape),
            own,
            phase=self.phase,
        )
        return self._register(node, out)


_WHOLE = ("Norm", "GELU", "SiLU", "Swish", "Mish", "Activation")


def is_opaque(module: nn.Module) -> bool:
    """Whether a module is one operation to its user: its inner ones are not sites of their own."""
    if isinstance(module, (nn.MultiheadAttention, torch.jit.ScriptModule)):
        return True
    if module._modules.keys() - {"parametrizations"}:
        return False
    kind = class_of(module)
    return kind.__module__.startswith("torch.nn.") or any(word in kind.__name__ for word in _WHOLE)


def class_of(module: nn.Module) -> type[nn.Module]:
    """The class the user chose: parametrizing a module replaces it by a subclass."""
    return type(module).__bases__[0] if is_parametrized(module) else type(module)
