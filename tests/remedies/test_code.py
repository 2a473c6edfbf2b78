"""The code of changes: what it imports stands above it, once."""

from isograd.remedies._code import program, together


def test_only_what_is_used_is_imported() -> None:
    code = program("torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)")
    assert code == "import torch\n\ntorch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)"
    assert program("x = nn.Linear(2, 3)").startswith("from torch import nn\n\n")
    assert program("model.train()") == "model.train()"


def test_programs_share_their_imports() -> None:
    first = program("a = nn.Linear(2, 3)", "b = torch.ones(2)")
    second = program("for name in ('x',):\n    c = torch.zeros(3)", "loss = AlignedTargets(loss)")
    assert together((first, second)).splitlines() == [
        "import torch",
        "from torch import nn",
        "from isograd.remedies import AlignedTargets",
        "",
        "a = nn.Linear(2, 3)",
        "b = torch.ones(2)",
        "for name in ('x',):",
        "    c = torch.zeros(3)",
        "loss = AlignedTargets(loss)",
    ]
    assert together(("x = 1", "y = 2")) == "x = 1\ny = 2"
