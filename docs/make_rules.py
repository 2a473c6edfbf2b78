"""Writes docs/rules.md from the rules' own docstrings and thresholds.

python docs/make_rules.py
"""

from pathlib import Path

from isograd.findings import CAUSES
from isograd.rules import RULES


def page() -> str:
    """The page: a table of all rules, then a section for each."""
    lines = [
        "# The rules",
        "",
        "Made by `python docs/make_rules.py` from the rules themselves.",
        "",
        "| code | what it finds |",
        "|---|---|",
        *(f"| [{r.code}](#{r.code.lower()}) | {r.title()} |" for r in RULES),
        "",
        "A finding names one of these causes: " + ", ".join(f"`{cause}`" for cause in CAUSES) + ".",
    ]
    for rule in RULES:
        lines += ["", f"## {rule.code}", "", f"**{rule.title()}**"]
        for heading, text in rule.sections().items():
            lines += ["", f"*{heading}*: {text}"]
        if rule.thresholds():
            lines += ["", "| threshold | value | why |", "|---|---|---|"]
            lines += [
                f"| `{name}` | {value} | {reason.replace('|', chr(92) + '|')} |"
                for name, value, reason in rule.thresholds()
            ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    Path(__file__).with_name("rules.md").write_text(page())
