"""explain(): a rule's own text."""

import textwrap

from isograd.errors import InputError
from isograd.rules import RULES


def explain(code: str) -> str:
    """What a rule sees, why it matters, when it is wrong and what to do, with its thresholds.

    Args:
        code: such as `IG101`, in either case.

    Raises:
        InputError: no rule has this code.
    """
    if code.upper() not in RULES:
        known = ", ".join(rule.code for rule in RULES)
        raise InputError(f"explain: no rule has the code {code!r}; the rules are {known}")
    rule = RULES[code.upper()]
    parts = [f"{rule.code}  {rule.title()}"]
    for heading, text in rule.sections().items():
        body = textwrap.fill(text, 96, initial_indent="  ", subsequent_indent="  ")
        parts.append(f"{heading}\n{body}")
    lines = [
        textwrap.fill(
            f"{name} = {value}: {reason}", 96, initial_indent="  ", subsequent_indent="    "
        )
        for name, value, reason in rule.thresholds()
    ]
    if lines:
        parts.append("\n".join(["Thresholds", *lines]))
    return "\n\n".join(parts)
