import math
from collections.abc import Callable

import pytest
import torch
from sampled_laws import assert_law, assert_same_model, law
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn import init

from isograd.prediction.recording import Law, law_of, recording


def recorded(recipe: Callable[[], Tensor]) -> Law:
    with recording():
        found = law_of(recipe())
    assert found is not None
    return found


# -- layers and init functions, each built twice ------------------------------------------------

LAYERS: dict[str, Callable[[], nn.Module]] = {
    "Linear": lambda: nn.Linear(151, 307),
    "Conv1d": lambda: nn.Conv1d(24, 51, 5, groups=3),
    "Conv2d": lambda: nn.Conv2d(17, 43, (3, 5)),
    "Conv3d": lambda: nn.Conv3d(11, 13, (2, 3, 4)),
    "ConvTranspose1d": lambda: nn.ConvTranspose1d(31, 43, 5),
    "ConvTranspose2d": lambda: nn.ConvTranspose2d(12, 34, 3, groups=2),
    "ConvTranspose3d": lambda: nn.ConvTranspose3d(11, 13, 3),
    "Embedding": lambda: nn.Embedding(211, 37),
    "Embedding with padding": lambda: nn.Embedding(23, 67, padding_idx=4),
    "EmbeddingBag": lambda: nn.EmbeddingBag(211, 37),
    "LSTM": lambda: nn.LSTM(29, 47, num_layers=2, bidirectional=True, proj_size=11),
    "GRU": lambda: nn.GRU(29, 47),
    "RNN": lambda: nn.RNN(29, 47),
    "GRUCell": lambda: nn.GRUCell(29, 47),
    "MultiheadAttention": lambda: nn.MultiheadAttention(96, 4),
    "MultiheadAttention of unlike sizes": lambda: nn.MultiheadAttention(
        96, 4, kdim=53, vdim=71, add_bias_kv=True
    ),
    "Bilinear": lambda: nn.Bilinear(23, 31, 37),
    "BatchNorm2d": lambda: nn.BatchNorm2d(13),
    "LayerNorm": lambda: nn.LayerNorm([7, 13]),
    "GroupNorm": lambda: nn.GroupNorm(2, 14),
    "InstanceNorm2d": lambda: nn.InstanceNorm2d(13, affine=True),
    "RMSNorm": lambda: nn.RMSNorm(13),
    "PReLU": lambda: nn.PReLU(13),
    "TransformerEncoderLayer": lambda: nn.TransformerEncoderLayer(48, 3, 101, batch_first=True),
    "Transformer": lambda: nn.Transformer(48, 4, 2, 2, 101, batch_first=True),
    "weight_norm": lambda: nn.utils.parametrizations.weight_norm(nn.Linear(401, 503)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_is_recorded_as_it_initializes_itself(name: str) -> None:
    assert_same_model(LAYERS[name])


INITS: dict[str, Callable[[Tensor], Tensor]] = {
    "uniform_": lambda t: init.uniform_(t, -0.3, 0.7),
    "normal_": lambda t: init.normal_(t, 0.5, 0.2),
    "normal_ of no width": lambda t: init.normal_(t, 0.5, 0.0),
    "trunc_normal_": lambda t: init.trunc_normal_(t, std=0.02),
    "trunc_normal_ cut": lambda t: init.trunc_normal_(t, 0.1, 1.0, -0.7, 1.5),
    "trunc_normal_ far": lambda t: init.trunc_normal_(t, 0.0, 1.0, 1.5, 2.5),
    "constant_": lambda t: init.constant_(t, 0.3),
    "ones_": init.ones_,
    "zeros_": init.zeros_,
    "eye_": init.eye_,
    "xavier_uniform_": lambda t: init.xavier_uniform_(t, gain=1.7),
    "xavier_normal_": lambda t: init.xavier_normal_(t, gain=1.7),
    "kaiming_uniform_": lambda t: init.kaiming_uniform_(t, a=0.3, mode="fan_out"),
    "kaiming_normal_": lambda t: init.kaiming_normal_(t, nonlinearity="relu"),
    "orthogonal_": lambda t: init.orthogonal_(t, gain=1.3),
    "sparse_": lambda t: init.sparse_(t, 0.3, std=0.2),
}
FILTERS: dict[str, Callable[[Tensor], Tensor]] = {
    "dirac_": lambda t: init.dirac_(t, groups=2),
    "kaiming_uniform_": init.kaiming_uniform_,
    "xavier_normal_": init.xavier_normal_,
    "orthogonal_": init.orthogonal_,
}
MATRICES = [(271, 183), (183, 271)]
KERNELS = [(46, 31, 5), (62, 46, 3, 5), (14, 22, 2, 3, 4)]


@pytest.mark.parametrize(
    ("fill", "shape"),
    [pytest.param(INITS[name], shape, id=f"{name} {shape}") for name in INITS for shape in MATRICES]
    + [pytest.param(FILTERS[n], shape, id=f"{n} {shape}") for n in FILTERS for shape in KERNELS],
)
@pytest.mark.filterwarnings("ignore:mean is more than 2 std")
def test_an_init_function_is_recorded(
    fill: Callable[[Tensor], Tensor], shape: tuple[int, ...]
) -> None:
    def empty() -> Tensor:
        return fill(nn.Parameter(torch.empty(shape)))

    def zeros() -> Tensor:
        return fill(nn.ParameterList([torch.zeros(shape)])[0])

    torch.manual_seed(3)
    real = fill(torch.empty(shape))
    for build in (empty, zeros):
        with recording():
            tensor = build()
        assert_law(law(tensor), real)
        assert isinstance(tensor, nn.Parameter)


@pytest.mark.parametrize("half", [0.3, 1.0, 2.0, 9.0, math.inf])
def test_truncation_has_the_exact_variance(half: float) -> None:
    stats = pytest.importorskip("scipy.stats")
    for middle in (0.0, 0.4, -1.3):
        low, high = middle - half, middle + half
        witness = stats.truncnorm(low, high)
        # Of torch's own function, and of the uniform - erfinv - scale - shift - clamp of others.
        direct = recorded(lambda a=low, b=high: init.trunc_normal_(torch.empty(3, 5), a=a, b=b))
        chain = recorded(lambda a=low, b=high: trunc_normal_by_inversion(torch.empty(3, 5), a, b))
        for found in (direct, chain):
            assert found.mean == pytest.approx(witness.mean(), abs=1e-10)
            assert found.variance == pytest.approx(witness.var(), rel=1e-9)
            assert found.kind == "trunc_normal"


@pytest.mark.parametrize("ends", [(-math.inf, -2.0), (2.0, math.inf), (6.0, 99.0), (-31.0, -20.0)])
def test_truncation_to_a_tail_is_exact(ends: tuple[float, float]) -> None:
    mpmath = pytest.importorskip("mpmath")
    with mpmath.workdps(300):  # 86 digits cancel at 20 deviations
        low, high = (mpmath.mpf(end) for end in ends)
        inside = mpmath.ncdf(high) - mpmath.ncdf(low)
        edges = [(z, mpmath.npdf(z)) for z in (low, high)]
        mean = (edges[0][1] - edges[1][1]) / inside
        moments = [z * bell if mpmath.isfinite(z) else 0 for z, bell in edges]
        variance = 1 + (moments[0] - moments[1]) / inside - mean**2
    found = recorded(lambda: init.trunc_normal_(torch.empty(3, 5), a=ends[0], b=ends[1]))
    assert found.mean == pytest.approx(float(mean), rel=1e-10)
    assert found.variance == pytest.approx(float(variance), rel=1e-8)


def trunc_normal_by_inversion(tensor: Tensor, a: float, b: float) -> Tensor:
    def cdf(x: float) -> float:
        return (1 + math.erf(x / math.sqrt(2))) / 2

    tensor.uniform_(2 * cdf(a) - 1, 2 * cdf(b) - 1)
    return tensor.erfinv_().mul_(math.sqrt(2)).add_(0.0).clamp_(min=a, max=b)


def test_kinds_and_exact_moments() -> None:
    assert recorded(lambda: init.normal_(torch.empty(3), 1.0, 2.0)) == Law(1.0, 4.0, "normal")
    assert recorded(lambda: torch.randn(3) * 0.5 + 1) == Law(1.0, 0.25, "normal")
    assert recorded(lambda: torch.rand(3)).kind == "uniform"
    assert recorded(lambda: torch.rand(3)).variance == pytest.approx(1 / 12)
    assert recorded(lambda: init.orthogonal_(torch.empty(6, 9, 2), 3.0)) == Law(
        0.0, pytest.approx(0.5), "orthogonal"
    )
    assert recorded(lambda: init.sparse_(torch.empty(10, 7), 0.25, 2.0)) == Law(
        0.0, pytest.approx(0.7 * 4), "sparse"
    )
    assert recorded(lambda: init.eye_(torch.empty(5, 8))) == Law(
        pytest.approx(1 / 8), pytest.approx(7 / 64), "eye"
    )
    assert recorded(lambda: init.dirac_(torch.empty(6, 2, 5), 2)) == Law(
        pytest.approx(4 / 60), pytest.approx(4 / 60 - (4 / 60) ** 2), "dirac"
    )
    assert recorded(lambda: torch.empty(3).fill_(2.5)) == Law(2.5, 0.0, "constant")
    assert recorded(lambda: torch.empty(3).zero_()) == Law(0.0, 0.0, "zeros")


CLOSED: dict[str, tuple[Callable[[Tensor], Tensor], float, float]] = {
    # name: function of a standard normal tensor, mean, variance
    "exp": (torch.exp, math.exp(0.5), math.exp(2) - math.exp(1)),
    "square": (lambda z: z * z, 1.0, 2.0),
    "cube": (lambda z: z**3, 0.0, 15.0),
    "cosine": (torch.cos, math.exp(-0.5), (1 + math.exp(-2)) / 2 - math.exp(-1)),
    "z + z^2": (lambda z: z + z * z, 1.0, 3.0),
    "twice in place": (lambda z: z.mul_(2).exp_().log_(), 0.0, 4.0),
}


@pytest.mark.parametrize("name", CLOSED)
def test_functions_of_a_normal_variable_are_exact(name: str) -> None:
    function, mean, variance = CLOSED[name]
    found = recorded(lambda: function(torch.randn(7)))
    assert found.mean == pytest.approx(mean, abs=1e-11)
    assert found.variance == pytest.approx(variance, rel=1e-10)


KINKED: dict[str, tuple[Callable[[Tensor], Tensor], float, float]] = {
    "relu": (F.relu, 1 / math.sqrt(2 * math.pi), 0.5 - 0.5 / math.pi),
    "abs": (torch.abs, math.sqrt(2 / math.pi), 1 - 2 / math.pi),
    "sign": (torch.sign, 0.0, 1.0),
    "clamp": (lambda z: z.clamp(-1, 1), 0.0, 1 - math.sqrt(2 / math.pi / math.e)),
}


@pytest.mark.parametrize("name", KINKED)
def test_functions_with_kinks_are_nearly_so(name: str) -> None:
    function, mean, variance = KINKED[name]
    found = recorded(lambda: function(torch.randn(7)))
    assert found.mean == pytest.approx(mean, abs=1e-4)
    assert found.variance == pytest.approx(variance, rel=1e-4)


# -- what code does with tensors, run recorded and for real -------------------------------------


def written() -> Tensor:
    t = torch.randn(60, 90)
    t[:20] = 2.0
    t[10:30, 30:60].fill_(-1.0)
    t.t()[5::7].mul_(3.0)
    t[torch.arange(40, 60, 3), 7] = 11.0
    t.view(-1)[:45].uniform_(4.0, 5.0)
    return t


def delta_bias() -> Tensor:
    """The bias of a selective state-space layer: an inverse softplus of log-uniform steps."""
    dt = torch.exp(torch.rand(4001) * (math.log(0.1) - math.log(1e-3)) + math.log(1e-3))
    dt = dt.clamp(min=1e-4)
    bias = torch.empty(4001)
    bias.copy_(dt + torch.log(-torch.expm1(-dt)))
    return bias


def forget_gate() -> Tensor:
    cell = nn.LSTM(7, 500)
    with torch.no_grad():
        cell.bias_ih_l0[500:1000].fill_(1.0)
        cell.bias_ih_l0.data[500:1000].add_(0.5)
    return cell.bias_ih_l0


def new_data() -> Tensor:
    layer = nn.Linear(53, 71)
    layer.weight.data = torch.rand(53, 71).t() * 3
    return layer.weight


def legacy() -> Tensor:
    weight = nn.Parameter(torch.Tensor(53, 71))
    weight.data.normal_(0.5, 2.0)
    return weight


def padded() -> Tensor:
    table = nn.Embedding(17, 301)
    table.weight.data.normal_(mean=0.0, std=0.02)
    table.weight.data[3].zero_()
    return table.weight


def pruned() -> Tensor:
    layer = nn.Linear(71, 103)
    with torch.no_grad():
        layer.weight /= layer.weight.std()
        layer.weight.clamp_(-1.2, 1.5)
        layer.weight[torch.rand(103, 71) < 0.25] = 2.0
        layer.weight.masked_fill_(torch.arange(71) % 5 == 0, -1.0)
    return layer.weight


RECIPES: dict[str, Callable[[], Tensor]] = {
    "scaled": lambda: nn.Parameter(torch.randn(91, 77) * 0.02),
    "shifted": lambda: 1 - torch.rand(91, 77) / 4,
    "negated": lambda: -(torch.rand(91, 77) + 1),
    "chained in place": lambda: torch.empty(91, 77).uniform_(1, 2).mul_(3).sub_(1).div_(2).neg_(),
    "with alpha": lambda: torch.randn(91, 77).add(torch.rand(91, 77), alpha=3.0),
    "of a half": lambda: torch.randn(91, 77).half(),
    "of numbers": lambda: torch.normal(1.0, 0.5, size=(91, 77)),
    "of tensors": lambda: torch.normal(torch.arange(900.0), torch.linspace(0.1, 2.0, 900)),
    "into out": lambda: torch.randn(91, 77, out=torch.empty(91, 77)),
    "alike": lambda: torch.rand_like(torch.zeros(91, 77)),
    "old new": lambda: torch.randn(2).new(91, 77).normal_(),
    "new_empty": lambda: torch.zeros(2).new_empty(91, 77).normal_(),
    "old FloatTensor": lambda: torch.FloatTensor(91, 77).uniform_(-1, 3),
    "exponential_": lambda: torch.empty(91, 77).exponential_(2.0),
    "log_normal_": lambda: torch.empty(91, 77).log_normal_(0.1, 0.3),
    "bernoulli_": lambda: torch.empty(91, 77).bernoulli_(0.2),
    "absolute": lambda: torch.randn(91, 77).abs(),
    "clamped": lambda: torch.randn(91, 77).clamp_(-0.5, 1.5),
    "clamped below": lambda: torch.randn(91, 77).clamp_min(0.3),
    "clamped above": lambda: torch.clamp(torch.rand(91, 77), max=0.3),
    "relu": lambda: F.relu(torch.randn(91, 77) + 0.3),
    "softplus": lambda: F.softplus(torch.randn(91, 77), beta=2.0),
    "power": lambda: torch.rand(91, 77) ** 3,
    "log of uniform": lambda: torch.rand(91, 77).log_(),
    "two of one root": lambda: (lambda u: u * (1 - u) + u)(torch.rand(91, 77)),
    "two roots": lambda: torch.randn(91, 77) + torch.rand(91, 77),
    "symmetric": lambda: (lambda w: (w + w.T) / 2)(torch.randn(83, 83)),
    "product": lambda: torch.randn(91, 77) * torch.rand(91, 77),
    "product of one root": lambda: (lambda w: w * w)(torch.randn(91, 77)),
    "quotient": lambda: torch.randn(91, 77) / (1 + torch.rand(91, 77)),
    "masked": lambda: torch.randn(90, 77) * (torch.arange(90)[:, None] % 3 == 0),
    "plus table": lambda: torch.randn(90, 77) * 0.1 + torch.arange(90.0)[:, None],
    "centered": lambda: (lambda w: w - w.mean(dim=1, keepdim=True))(torch.randn(901, 7)),
    "standardized": lambda: (lambda w: w / w.std(dim=1, keepdim=True))(torch.rand(91, 400)),
    "unit rows": lambda: (lambda w: w / w.norm(dim=1, keepdim=True))(torch.randn(91, 400)),
    "normalized off center": lambda: F.normalize(1 + torch.rand(91, 777), dim=1),
    "of numbers into out": lambda: torch.normal(1.0, 2.0, size=(91, 77), out=torch.empty(91, 77)),
    "by keyword": lambda: torch.exp(input=torch.randn(91, 77)),
    "normalized": lambda: F.normalize(torch.randn(91, 77), dim=1),
    "norms": lambda: torch.linalg.vector_norm(1 + torch.rand(901, 77), dim=1),
    "sums": lambda: torch.rand(901, 77).sum(1),
    "variances": lambda: torch.randn(901, 77).var(1),
    "cat": lambda: torch.cat([torch.randn(10, 77), torch.ones(5, 77), torch.rand(30, 77)]),
    "stack": lambda: torch.stack([torch.randn(77, 31), torch.randn(77, 31)]),
    "chunk": lambda: torch.randn(90, 77).chunk(3, dim=1)[1],
    "slice": lambda: torch.rand(90, 77)[3:50, ::2],
    "permuted": lambda: torch.rand(90, 77).t().reshape(-1).view(77, 90).contiguous(),
    "picked": lambda: torch.rand(90, 77)[torch.randperm(90)[:50]],
    "picked by mask": lambda: torch.rand(90, 77)[torch.arange(90) % 4 > 0],
    "flipped": lambda: torch.rand(90, 77).flip(0).roll(3, 1),
    "repeated": lambda: torch.rand(900, 7).repeat(1, 2)[:, :7],
    "expanded": lambda: torch.rand(7000, 1).expand(-1, 2)[:, 1],
    "diagonal": lambda: torch.randn(91, 77).fill_diagonal_(9.0),
    "norms of a matrix": lambda: torch.linalg.norm(torch.rand(901, 77), 2, 1),
    "triangle": lambda: torch.tril(torch.randn(97, 91) + 1, diagonal=2),
    "detached": lambda: nn.Parameter(torch.rand(91, 77)).detach().clone(),
    "converted": lambda: torch.rand(91, 77).to(torch.zeros(1, dtype=torch.float64)),
    "moved": lambda: torch.rand(91, 77).to("cpu", torch.float64).cpu(),
    "same type": lambda: torch.rand(91, 77).type_as(torch.zeros(1, dtype=torch.float64)),
    "linear by qr": lambda: torch.linalg.qr(torch.randn(90, 70))[0],
    "cumulated": lambda: torch.rand(7007).cumsum_(0),
    "sorted": lambda: torch.rand(7007).sort()[0],
    "written": written,
    "delta bias": delta_bias,
    "forget gate": forget_gate,
    "new data": new_data,
    "legacy": legacy,
    "padded": padded,
    "pruned": pruned,
}


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_recorded_as_it_comes_out(name: str) -> None:
    with recording():
        seen = RECIPES[name]()
    found = law(seen)
    torch.manual_seed(7)
    real = RECIPES[name]()
    assert (seen.shape, seen.dtype) == (real.shape, real.dtype)
    assert_law(found, real)


def test_parts_written_are_exact() -> None:
    with recording():
        table = nn.Embedding(10, 7, padding_idx=2)
        gates = nn.LSTM(3, 5).bias_ih_l0
        gates.data[5:10].fill_(1.0)
        gates.data[5:10].fill_(2.0)
    assert law_of(table.weight) == Law(0.0, pytest.approx(0.9), "mixed")
    assert law_of(table.weight[2]) == Law(0.0, 0.0, "zeros")
    assert law_of(table.weight[3:]) == Law(0.0, 1.0, "normal")
    uniform = 1 / 15  # of bound 1 / sqrt(5)
    assert law_of(gates) == Law(0.5, pytest.approx(0.75 * uniform + 0.25 * 4 - 0.25), "mixed")
    assert law_of(gates[5:10]) == Law(2.0, 0.0, "constant")
    with recording():
        gates.data.normal_()
    assert law_of(gates) == Law(0.0, 1.0, "normal")
