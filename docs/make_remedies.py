"""Writes docs/remedies.md from the remedies' own docstrings and settings.

python docs/make_remedies.py
"""

from pathlib import Path

from isograd.remedies import FAMILIES, REMEDIES

INTRO = """# The remedies

Made by `python docs/make_remedies.py` from the remedies themselves.

A remedy is a change of model, loss, optimizer or data that says itself as code in the words of
your network, tells why where it cannot help, and can be taken back bit for bit:

```python
from isograd import remedies

change = remedies.apply("init-gain", model, batch)  # RemedyError with the reason if it cannot help
print(change.code)  # what was done, as Python that runs as it stands
change.undo()
```

`change.model` and `change.loss` are what to train with, and `change.optimizer` is a function that
makes the optimizer, one of torch like yours: `change.optimizer(change.model.parameters())`. Where
the last two are None, yours stay. A warm-up and clipping are hooks of that optimizer, beside which
a schedule goes on as ever; torch leaves hooks out of copies and of `state_dict`. Settings are
keyword arguments: `apply("init-gain", …, keep="backward")`. What a remedy expects is theory;
whether it helped is for a measurement to say ([`isograd.repair`](repair.md) measures it).
A remedy of your own is one class:
[`examples/own_remedy.py`](../examples/own_remedy.py).
"""


def page() -> str:
    """The page: a table of all remedies by family, then a section for each."""
    ordered = sorted(REMEDIES, key=lambda r: (r.invasive, r.code))
    lines = [
        INTRO,
        "Families, the least invasive first: " + ", ".join(FAMILIES) + ".",
        "",
        "| remedy | family | what it does | against |",
        "|---|---|---|---|",
    ]
    for r in ordered:
        causes = ", ".join(f"`{cause}`" for cause in r.addresses)
        lines.append(f"| [{r.code}](#{r.code}) | {r.family} | {r.title()} | {causes} |")
    for r in ordered:
        lines += ["", f"## {r.code}", "", f"**{r.title()}**"]
        for heading, text in r.sections().items():
            lines += ["", f"*{heading}*: {text}"]
        if r.settings():
            lines += ["", "| setting | value | why |", "|---|---|---|"]
            lines += [f"| `{n}` | `{value!r}` | {why} |" for n, value, why in r.settings()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    Path(__file__).with_name("remedies.md").write_text(page())
