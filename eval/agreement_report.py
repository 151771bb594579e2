"""Agreement of a model with people on the screen: what grades it gave to what, and the coefficients."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from eval.agreement import Agreement
from eval.tables import console

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["print_agreement"]


def print_agreement(found: Agreement | None, judge: str, tau: Mapping[str, float | None], systems: int) -> None:
    """Print grades by people against the model's, coefficients, and tau of the orders both put systems in."""
    to = console()
    if found is None:
        to.print(f"agreement: none to tell, as no pair was judged by people and by {judge}", markup=False)
    else:
        to.print(_grades(found, judge))
        for what, value in _coefficients(found).items():
            to.print(f"{what}: {_shown(value)}", highlight=False)
        to.print(f"judged by people only: {found.only_first}, by the model only: {found.only_second}")
        if max(found.grades) > (highest := _highest(found)):
            to.print(f"people gave no grade above {highest}: look at the binary kappa, the scales are not the same")
    for measure, value in tau.items():
        to.print(f"Kendall's tau of {systems} systems by {measure}: {_shown(value, 'too few systems, or all tied')}")


def _grades(found: Agreement, judge: str) -> Table:
    from rich.table import Table
    from rich.text import Text

    title = f"grades of {found.pairs} pairs: a row for each by people, a column for each by {judge}"
    table = Table("", title=Text(title, no_wrap=True, overflow="ignore"), title_justify="left")  # may be wider than it
    for grade in found.grades:
        table.add_column(str(grade), justify="right")
    for grade, line in zip(found.grades, found.confusion.tolist(), strict=True):
        table.add_row(str(grade), *map(str, line))
    return table


def _coefficients(found: Agreement) -> dict[str, float | None]:
    return {
        "Cohen's kappa": found.kappa,
        "Cohen's kappa, quadratic weights": found.kappa_quadratic,
        "Cohen's kappa, relevant or not": found.kappa_binary,
        **{f"Krippendorff's alpha, {level}": value for level, value in found.alpha.items()},
    }


def _highest(found: Agreement) -> int:
    """The highest grade that people gave."""
    return max(grade for grade, line in zip(found.grades, found.confusion, strict=True) if line.any())


def _shown(value: float | None, why: str = "all grades are the same one") -> str:
    return f"none: {why}" if value is None else f"{value:.4f}"
