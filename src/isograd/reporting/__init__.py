"""A diagnosis, repair or watched run as text, JSON, HTML, SARIF or Markdown: a file per form."""

import importlib
from os import PathLike
from typing import TYPE_CHECKING, Any

from isograd.errors import InputError
from isograd.findings import Diagnosis

if TYPE_CHECKING:
    from isograd.repairs.result import Repair
    from isograd.storage import Run

FORMS = ("text", "json", "html", "html-fragment", "sarif", "markdown")
"""Every form that `render` knows."""

REPAIR_FORMS = ("text", "json", "html", "html-fragment", "markdown")
"""Every form of a repair; SARIF is for findings alone."""

RUN_FORMS = ("text", "json", "html", "sarif", "markdown")
"""Every form that `render_run` knows."""


def render(
    diagnosis: "Diagnosis | Repair",
    form: str,
    *,
    width: int | None = None,
    color: bool = False,
    artifact: str | PathLike[str] | None = None,
) -> str:
    """A diagnosis in one of FORMS, or a repair in one of REPAIR_FORMS.

    Args:
        diagnosis: what to tell.
        form: one of them.
        width: columns of the text form; 80 where left out.
        color: whether the text form may use ANSI colors.
        artifact: the file that defines the model; the SARIF form points there.

    Raises:
        InputError: there is no such form.
    """
    prefix, forms = ("as", FORMS) if isinstance(diagnosis, Diagnosis) else ("repair", REPAIR_FORMS)
    if form not in forms:
        raise InputError(f"render: there is no form {form!r}; the forms are {', '.join(forms)}")
    options: dict[str, Any] = {
        "text": {"width": width, "color": color},
        "sarif": {"artifact": artifact},
        "html-fragment": {"whole": False},
    }
    file = importlib.import_module(f"isograd.reporting.{prefix}_{form.partition('-')[0]}")
    text: str = file.tell(diagnosis, **options.get(form, {}))
    return text


def render_run(run: "Run", form: str, *, width: int | None = None, color: bool = False) -> str:
    """A watched run in one of FORMS, but `html-fragment`; also while it goes on.

    Args:
        run: of `isograd.open_run`.
        form: one of FORMS; the SARIF form tells the last judgement alone.
        width: columns of the text form; 80 where left out.
        color: whether the text form may use ANSI colors.

    Raises:
        InputError: there is no such form.
        StorageError: no step was looked at yet.
    """
    from isograd.reporting._watched import gather

    if form not in RUN_FORMS:
        raise InputError(f"render_run: there is no form {form!r}; there is {', '.join(RUN_FORMS)}")
    watched = gather(run)
    if form == "sarif":
        return render(watched.diagnosis, form)
    file = importlib.import_module(f"isograd.reporting.run_{form}")
    text: str = file.tell(watched, **({"width": width, "color": color} if form == "text" else {}))
    return text


def show(diagnosis: Diagnosis, **console_options: Any) -> None:
    """Prints the text form, in color and at the terminal's width where there is one.

    Args:
        diagnosis: what to tell.
        console_options: of `rich.console.Console`, such as `file`, `width` or `no_color`.
    """
    from isograd.reporting._terminal import write

    write(diagnosis, **console_options)


def read_json(text: str) -> Diagnosis:
    """The diagnosis of which the JSON form is `text`, exactly as it was.

    Raises:
        StorageError: the text is not a JSON report, or is of another schema.
    """
    from isograd.reporting.as_json import read

    return read(text)


__all__ = ["FORMS", "RUN_FORMS", "read_json", "render", "render_run", "show"]
