"""Skips, branches and norms: what they do to signal and gradient, and which weights they touch."""

import copy
import functools

import pytest
import torch
from torch import Tensor, nn

from isograd import remedies
from isograd.errors import InputError, RemedyError
from isograd.probe.measuring import measure
from isograd.remedies import Scaled, Skip, WeightStandardized
from isograd.remedies._examples import classes, plain, residual
from isograd.remedies.normalization_statistics import NormalizationStatistics
from isograd.repairs.choosing import structural
from isograd.repairs.treatments import treatment
from isograd.theory import gains
from patients.zoo import HEALTHY


def stream(model: nn.Module, x: Tensor) -> list[float]:
    """Rms of the stream after every block."""
    sizes = [float(x.square().mean().sqrt())]
    with torch.no_grad():
        for block in model.blocks:  # type: ignore[union-attr]
            x = block(x)
            sizes.append(float(x.square().mean().sqrt()))
    return sizes


def input_gradient(model: nn.Module, x: Tensor) -> float:
    """Rms of d(a random projection)/d(input)."""
    x = x.clone().requires_grad_()
    out = model(x)
    (gradient,) = torch.autograd.grad((out * torch.randn_like(out)).sum(), x)
    return float(gradient.square().mean().sqrt())


def test_scaled_branches_add_up_to_e_at_most() -> None:
    torch.manual_seed(0)
    model, batch = residual(30, 1.0), classes(64)
    wild = stream(model, batch[0])[-1]
    assert wild > 1e4  # (1 + 1)^(30/2)
    change = remedies.apply("residual-scale", model, batch)
    sizes = stream(model, batch[0])
    assert sizes[-1] / sizes[0] == pytest.approx(torch.e**0.5, rel=0.35)
    assert "0.182574" in change.code
    change.undo()
    assert stream(model, batch[0])[-1] == wild


@pytest.mark.parametrize("code", ["residual-zero", "residual-skipinit", "residual-fixup"])
def test_blocks_start_as_the_identity(code: str) -> None:
    torch.manual_seed(0)
    model, batch = residual(20, 1.0), classes()
    remedies.apply(code, model, batch)
    assert stream(model, batch[0]) == pytest.approx([stream(model, batch[0])[0]] * 21)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    first = None
    for _ in range(30):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(batch[0]), batch[1])
        first = first if first is not None else float(loss.detach())
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < first  # type: ignore[operator]


def test_a_change_says_whether_the_optimizer_has_to_be_made_after_it() -> None:
    grown = remedies.apply("normalization-insert", plain(4), classes())
    assert grown.grown
    assert "new parameters are not trained" in str(grown)
    assert not remedies.apply("residual-scale", residual(6, 1.0), classes()).grown


def test_fixup_shares_the_scale_among_the_layers() -> None:
    model, batch = residual(16, 1.0), classes()
    before = model.blocks[3].first.weight.detach().clone()  # type: ignore[index, union-attr]
    remedies.apply("residual-fixup", model, batch)
    after = model.blocks[3].first.weight  # type: ignore[index, union-attr]
    assert torch.allclose(after, before * 16**-0.5)  # N^(-1/(2 m - 2)) with m = 2
    assert not model.head.weight.any()  # type: ignore[union-attr, operator]


def test_fixups_multipliers_change_nothing_at_first_and_are_trained() -> None:
    torch.manual_seed(0)
    model, batch = residual(16, 1.0), classes()
    before = set(model.state_dict())
    change = remedies.apply("residual-fixup", model, batch, multipliers=True)
    scales = [p for name, p in model.named_parameters() if name.endswith(".scale")]
    assert [float(s.detach()) for s in scales] == [1.0] * 16
    assert stream(model, batch[0]) == pytest.approx([stream(model, batch[0])[0]] * 17)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(5):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(batch[0]), batch[1]).backward()
        optimizer.step()
    assert all(float(s.detach()) != 1.0 for s in scales)
    change.undo()
    assert set(model.state_dict()) == before


def test_skips_around_layers_and_their_activations_are_one_loop() -> None:
    pairs = [x for _ in range(9) for x in (nn.Linear(20, 20), nn.Tanh())]
    model, batch = nn.Sequential(*pairs, nn.Linear(20, 10)), classes()
    change = remedies.apply("residual-skips", model, batch)
    assert len(change.code.splitlines()) == 7
    x = model[1](model[0](batch[0]))
    for k in range(2, 18, 2):
        inner = model[k].body  # type: ignore[union-attr]
        x = x + inner[1](inner[0](x)) * 8**-0.5  # type: ignore[index, operator]
    torch.testing.assert_close(model(batch[0]), model[18](x))


def test_a_change_tells_itself() -> None:
    model, batch = residual(16, 1.0), classes()
    told = str(remedies.apply("residual-skipinit", model, batch))
    assert told.startswith("residual-skipinit: All 16 blocks are the identity")
    assert "note: state_dict: " in told
    assert "set_submodule" in told


def test_norms_that_end_a_branch_are_scaled() -> None:
    patient = HEALTHY["resnet18"]()
    zeroed = remedies.apply("residual-zero", patient.model, patient.batch, patient.loss)
    assert "bn2.weight" in zeroed.code or "norm2.weight" in zeroed.code or ".weight" in zeroed.code
    gains_of = [m.weight for m in patient.model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert sum(not g.any() for g in gains_of) >= 5
    zeroed.undo()


def encoder(depth: int, *, norm_first: bool = False) -> nn.Module:
    layer = nn.TransformerEncoderLayer(
        16, 2, 24, dropout=0.0, batch_first=True, norm_first=norm_first
    )
    return nn.Sequential(
        nn.TransformerEncoder(layer, depth, enable_nested_tensor=False),
        nn.Flatten(),
        nn.Linear(80, 5),
    )


SEQUENCES = torch.randn(6, 5, 16), torch.randint(5, (6,))


def test_deepnorm_is_the_papers() -> None:
    torch.manual_seed(0)
    model = encoder(9)
    remedies.apply("residual-deepnorm", model, SEQUENCES)
    alpha, beta = (2 * 9) ** 0.25, (8 * 9) ** -0.25  # of 9 layers: 18 branches
    layer = model[0].layers[4]  # type: ignore[index, union-attr]
    xavier = (2 / (16 + 24)) ** 0.5
    assert float(layer.linear1.weight.detach().std()) == pytest.approx(beta * xavier, rel=0.15)
    assert float(layer.linear2.weight.detach().std()) == pytest.approx(
        beta * xavier / alpha, rel=0.15
    )
    query, key, value = layer.self_attn.in_proj_weight.chunk(3)
    assert float(query.detach().std()) == pytest.approx(16**-0.5, rel=0.15)
    assert float(key.detach().std()) == pytest.approx(16**-0.5, rel=0.15)
    assert float(value.detach().std()) == pytest.approx(beta * 16**-0.5, rel=0.15)
    # LN(x + f / alpha) is LN(alpha x + f).
    x, f = torch.randn(7, 16, dtype=torch.float64), torch.randn(7, 16, dtype=torch.float64)
    norm = nn.LayerNorm(16, eps=0.0).double()
    assert torch.allclose(norm(x + f / alpha), norm(alpha * x + f))


class _Posts(nn.Module):
    """Post-norm branches; alpha stands in front of the skips."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.ins = nn.ModuleList(nn.Linear(8, 12) for _ in range(count))
        self.outs = nn.ModuleList(nn.Linear(12, 8) for _ in range(count))
        self.norms = nn.ModuleList(nn.LayerNorm(8, eps=0.0) for _ in range(count))
        self.alpha = 1.0

    def forward(self, x: Tensor) -> Tensor:
        for into, out, norm in zip(self.ins, self.outs, self.norms, strict=True):
            skip = x if self.alpha == 1.0 else self.alpha * x
            x = norm(skip + out(torch.relu(into(x))))
        return x


@pytest.mark.parametrize("written", [False, True])
def test_deepnorm_trains_as_the_papers_does(written: bool) -> None:
    torch.manual_seed(0)
    model, batch = _Posts(16), (torch.randn(9, 8), torch.randn(9, 8))
    adam = functools.partial(torch.optim.Adam, lr=0.01, eps=1e-16)
    change = remedies.apply("residual-deepnorm", model, batch, optimizer=adam)
    papers = copy.deepcopy(model)
    papers.alpha = 2.0  # of 16 branches
    with torch.no_grad():
        for p in papers.outs.parameters():
            p.mul_(2.0)
        before = model(batch[0])
    ours, theirs = adam(model.parameters()), adam(papers.parameters())
    if written:
        exec(change.plan.training, {"model": model, "optimizer": ours})
    else:
        assert change.optimizer is not None
        ours = change.optimizer(model.parameters())
    for _ in range(5):
        for network, optimizer in ((model, ours), (papers, theirs)):
            optimizer.zero_grad()
            (network(batch[0]) - batch[1]).square().mean().backward()
            optimizer.step()
    with torch.no_grad():
        own, other = model(batch[0]), papers(batch[0])
    assert float((own - before).abs().max()) > 0.1
    assert float((own - other).abs().max()) < 1e-3


def test_norms_move_into_the_branches() -> None:
    torch.manual_seed(0)
    model = encoder(8)
    twin = copy.deepcopy(model)
    change = remedies.apply("residual-prenorm", model, SEQUENCES)
    expected = encoder(8, norm_first=True)
    expected.load_state_dict(twin.state_dict())
    expected[0].norm = nn.LayerNorm(16)  # type: ignore[index]
    assert torch.allclose(model(SEQUENCES[0]), expected(SEQUENCES[0]), atol=1e-6)
    assert "0.norm" in change.plan.keys
    change.undo()
    assert torch.equal(model(SEQUENCES[0]), twin(SEQUENCES[0]))
    bert = HEALTHY["bert"]()
    with pytest.raises(RemedyError, match="6 post-norm additions are written into a forward"):
        remedies.apply("residual-prenorm", bert.model, bert.batch, bert.loss)


@pytest.mark.parametrize("act", [nn.ReLU, nn.Tanh, nn.GELU])
@pytest.mark.parametrize("learn", [False, True])
def test_skips_carry_a_gradient_through_forty_layers(act: type[nn.Module], learn: bool) -> None:
    torch.manual_seed(0)
    model, batch = plain(40, act), classes()
    assert input_gradient(model, batch[0]) < 1e-7
    remedies.apply("residual-skips", model, batch, learn=learn)
    assert 0.01 < input_gradient(model, batch[0]) < 30
    assert sum(isinstance(m, Skip) for m in model.modules()) == 39


def test_convolutions_get_skips_where_they_keep_the_shape() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1))
    for _ in range(6):
        model.extend((nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1)))
    model.extend((nn.Conv2d(8, 8, 3, stride=2), nn.Flatten(), nn.Linear(32, 5)))
    batch = torch.randn(4, 3, 5, 5), torch.randint(5, (4,))
    remedies.apply("residual-skips", model, batch)
    wrapped = [i for i, m in enumerate(model) if isinstance(m, Skip)]
    assert wrapped == [2, 4, 6, 8, 10, 12]


@pytest.mark.parametrize("kind", ["batch", "layer", "rms", "group"])
def test_norms_set_the_scale_whatever_the_weights(kind: str) -> None:
    torch.manual_seed(0)
    model, (x, y) = plain(8, gain=0.05), classes(64)
    change = remedies.apply("normalization-insert", model, (x, y), kind=kind)
    record = measure(model, (x, y))
    norms = [i for i, s in enumerate(record.sites) if "norm" in s.kind]
    sizes = [record.value("forward.rms", i) for i in norms]
    # The floor of the norm (1e-5) beside a variance of 1e-3 leaves 0.99.
    assert sizes == pytest.approx([1.0] * 8, abs=0.15)
    keys = set(change.model.state_dict())
    assert {k for k in keys if k.startswith("0.")} == {"0.weight", "0.bias"}


def test_a_norm_is_not_put_where_its_eps_swallows_what_varies() -> None:
    x, y = classes()
    with pytest.raises(RemedyError, match="swallows: scale the inputs first"):
        remedies.apply("normalization-insert", plain(12), (2e-5 * x, y))
    remedies.apply("normalization-insert", plain(12), (0.01 * x, y))


def test_a_deep_stack_of_batch_norms_is_warned_of() -> None:
    model, batch = plain(40), classes(64)
    change = remedies.apply("normalization-insert", model, batch, kind="batch")
    (note,) = change.plan.notes
    assert "Without skips batch norms let the gradient grow" in note
    change.undo()
    deeper = plain(60)
    assert "LayerNorm" in remedies.apply("normalization-insert", deeper, batch).code
    twin = plain(40)
    for name in [str(i) for i in range(1, 80, 2)]:
        twin.set_submodule(name, nn.Sequential(nn.BatchNorm1d(32), nn.ReLU()))
    # By theory 1.47^(40/2); width 32 and batch 64 make it more rather than less.
    assert input_gradient(twin, batch[0]) > 100 * input_gradient(plain(1), batch[0])


def test_functions_get_their_norm_behind_the_layer() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convs = nn.ModuleList(nn.Conv2d(4, 4, 3, padding=1) for _ in range(5))
            self.head = nn.Linear(4, 5)

        def forward(self, x: Tensor) -> Tensor:
            for conv in self.convs:
                x = torch.relu(conv(x))
            out: Tensor = self.head(x.mean((2, 3)))
            return out

    model = Own()
    batch = torch.randn(16, 4, 5, 5), torch.randint(5, (16,))
    change = remedies.apply("normalization-insert", model, batch)
    assert isinstance(model.convs[0], nn.Sequential)
    assert isinstance(model.convs[0][1], nn.BatchNorm2d)
    assert "convs.0.0.weight" in change.model.state_dict()


def test_standardized_weights_have_mean_zero_and_the_exact_gain() -> None:
    torch.manual_seed(0)
    model, batch = plain(6, nn.GELU, gain=0.01, width=300, features=300), classes(64, 300)
    remedies.apply("normalization-weight", model, batch)
    weight = model[2].weight().detach()  # type: ignore[operator, union-attr]
    assert torch.allclose(weight.mean(1), torch.zeros(300), atol=1e-6)
    norms = weight.norm(dim=1)
    assert torch.allclose(norms, torch.full((300,), gains("gelu").std), rtol=1e-4)
    x = batch[0]
    with torch.no_grad():
        for layer in model[:-1]:  # type: ignore[attr-defined]
            x = layer(x)
            if isinstance(layer, WeightStandardized):
                assert float(x.std()) == pytest.approx(1.0, rel=0.12)


def test_a_standardized_convolution_is_a_convolution() -> None:
    layer = nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2)
    wrapped, x = WeightStandardized(layer, 1.3), torch.randn(2, 4, 9, 9)
    rows = layer.weight.detach().flatten(1)
    by_hand = (
        1.3
        * (rows - rows.mean(1, keepdim=True))
        / (rows.std(1, correction=0, keepdim=True) * 18**0.5)
    )
    plainly = nn.functional.conv2d(
        x, by_hand.view_as(layer.weight), layer.bias, stride=2, padding=1, groups=2
    )
    assert torch.allclose(wrapped(x), plainly, atol=1e-5)
    with pytest.raises(InputError, match=r"a LSTM is no nn\.Linear"):
        WeightStandardized(nn.LSTM(3, 3))


def test_a_learned_scale_starts_where_it_is_told() -> None:
    body, x = nn.Linear(5, 5).double(), torch.randn(3, 5, dtype=torch.float64)
    assert torch.equal(Scaled(body)(x), torch.zeros(3, 5, dtype=torch.float64))
    assert torch.allclose(Skip(body, 0.5)(x), x + 0.5 * body(x))
    assert next(n for n, _ in Skip(body, 0.0, learn=True).named_parameters()) == "scale"


def test_channels_of_vectors_are_normalized_all_together() -> None:
    # Two values have no mean and variance; a group of four would have hardly more.
    torch.manual_seed(0)
    layers = nn.Linear(20, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 7)
    x, y = torch.randn(2, 20), torch.randint(7, (2,))
    change = remedies.apply("normalization-statistics", nn.Sequential(*layers), (x, y), by="group")
    norm = change.model.get_submodule("1")
    assert isinstance(norm, nn.GroupNorm)
    assert norm.num_groups == 1


def test_a_momentum_is_a_value_and_another_norm_is_architecture() -> None:
    momentum, group = NormalizationStatistics().variants()
    case = momentum.sick()
    kinds = []
    for one in (momentum, group):
        plan = one.plan(case)
        assert not isinstance(plan, str), plan
        kinds.append(structural(treatment(one, plan, 0, aside=False, pressing=False)))
    assert kinds == [False, True]


def test_a_transformers_layer_keeps_its_norms() -> None:
    layer = nn.TransformerEncoderLayer(1, 1, 8, dropout=0.0, batch_first=True)
    model = nn.Sequential(layer, nn.Flatten(), nn.Linear(6, 1))
    batch = torch.randn(8, 6, 1), torch.randn(8, 1)
    with pytest.raises(RemedyError, match="TransformerEncoderLayer, which needs it"):
        remedies.apply("normalization-statistics", model, batch)


def test_an_eps_that_swallows_the_variance_becomes_a_rounding() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 32), nn.BatchNorm1d(32, eps=50.0), nn.ReLU())
    model.append(nn.Linear(32, 7))
    batch = torch.randn(64, 20), torch.randint(7, (64,))
    change = remedies.apply("normalization-statistics", model, batch)
    out = change.model[1](change.model[0](batch[0]))  # type: ignore[operator]
    assert float(out.detach().std(0, correction=0).mean()) == pytest.approx(1.0, abs=1e-3)
    change.undo()
    assert model[1].eps == 50.0
