"""Why a document has its score for a query, term by term.

Decides which terms contributed and how that is shown: as text, as a table in a terminal (rich), in a notebook (HTML).
Leaves finding documents to ``index`` and to stores.
"""

import html
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from sparse_embed.errors import ConfigurationError
from sparse_embed.vectors import SparseVector

if TYPE_CHECKING:
    from rich.table import Table

SHOWN: Final = 20  # terms; the rest is one line
COLUMNS: Final = ("term", "query", "document", "product")


class Contribution(NamedTuple):
    """One term that query and document share.

    Attributes:
        term: Its token, or its index where neither vector has tokens.
        query: Weight in the query.
        document: Weight in the document.
        product: What it adds to the score.
    """

    term: str | int
    query: float
    document: float
    product: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """A score and where it comes from. Shows itself in a notebook, in `rich.print`, and as text.

    Attributes:
        contributions: Shared terms, the heaviest product first, by absolute value.
        total: The score: ``query.dot(document)``.
    """

    contributions: list[Contribution]
    total: float

    def __str__(self) -> str:
        rows = [[*COLUMNS], *self._rows()]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in rows]
        return "\n".join([self._title(), *lines])

    def __rich__(self) -> "Table":
        from rich.box import SIMPLE_HEAD
        from rich.table import Table
        from rich.text import Text

        table = Table(title=self._title(), title_justify="left", title_style="bold", box=SIMPLE_HEAD)
        table.add_column(COLUMNS[0])
        for column in COLUMNS[1:]:
            table.add_column(column, justify="right")
        for row in self._rows():
            table.add_row(*map(Text, row))  # Text: a token like [bold] must not be read as markup
        return table

    def _repr_html_(self) -> str:
        """Notebook view: a table with a bar for each product; colours that work on light and on dark."""
        heaviest = max((abs(part.product) for part in self.contributions), default=1.0)
        cell = "padding:2px 10px;border:0;background:none;color:inherit"
        number = f"{cell};text-align:right;font-variant-numeric:tabular-nums"
        heads = "".join(
            f'<th style="{cell};font-weight:600;text-align:{"right" if at else "left"}">{name}</th>'
            for at, name in enumerate(COLUMNS)
        )
        bars = [
            f'<div style="width:{abs(part.product) / heaviest:.0%};height:10px;border-radius:2px;'
            f'background:{"#4a90d9" if part.product > 0 else "#d9605a"}"></div>'
            for part in self.contributions[:SHOWN]
        ]
        lines = []
        for (term, *weights), bar in zip(self._rows(), [*bars, ""], strict=False):  # no bar beside the sum of the rest
            numbers = "".join(f'<td style="{number}">{weight}</td>' for weight in weights)
            lines.append(
                f'<tr style="background:none"><td style="{cell};text-align:left">{html.escape(term)}</td>{numbers}'
                f'<td style="{cell};width:120px">{bar}</td></tr>'
            )
        return (
            '<table style="border-collapse:collapse;font-size:13px;line-height:1.4;color:inherit">'
            f'<caption style="text-align:left;padding:2px 10px;color:inherit">{html.escape(self._title())}</caption>'
            f'<thead><tr style="background:none;border-bottom:1px solid rgba(128,128,128,0.5)">{heads}'
            f'<th style="{cell}"></th></tr></thead><tbody>{"".join(lines)}</tbody></table>'
        )

    def _title(self) -> str:
        count = len(self.contributions)
        return f"score {self.total:.3f} from {count} shared term{'' if count == 1 else 's'}"

    def _rows(self) -> list[list[str]]:
        """The heaviest terms, and one line for the sum of the rest."""
        shown, rest = self.contributions[:SHOWN], self.contributions[SHOWN:]
        rows = [[_printable(str(term)), *(f"{weight:.3f}" for weight in weights)] for term, *weights in shown]
        if rest:
            rows.append([f"{len(rest)} more", "", "", f"{sum(part.product for part in rest):.3f}"])
        return rows


def _printable(token: str) -> str:
    """A line break would break the table, an escape would command the terminal."""
    return token if token.isprintable() else ascii(token)


def explain(query: SparseVector, document: SparseVector) -> Explanation:
    """Split the score of a document into what each shared term adds.

    Example:
        >>> print(explain(SparseVector([3, 8], [1.0, 2.0], ["red", "fox"]), SparseVector([8], [1.5])))
        score 3.000 from 1 shared term
        term  query  document  product
        fox   2.000     1.500    3.000

    Args:
        query: Vector of the query; of a store with IDF, as it is before IDF.
        document: Vector of the document, of the same model. Tokens are taken from the query, else from here.

    Raises:
        ConfigurationError: One is something else, such as a dictionary of LlamaIndex's.
    """
    for name, given in (("query", query), ("document", document)):
        if not isinstance(given, SparseVector):
            raise ConfigurationError(
                f"{name} must be a SparseVector, not {type(given).__name__}: sparse_embed.convert.from_dict makes one"
                " of LlamaIndex's dictionaries"
            )
    tokens: dict[int, str] = {}
    for vector in (document, query):
        tokens |= zip(vector.indices, vector.tokens or [], strict=False)
    weights = dict(zip(query.indices, query.values, strict=True))
    parts = [
        Contribution(tokens.get(index, index), weights[index], value, weights[index] * value)
        for index, value in zip(document.indices, document.values, strict=True)
        if index in weights
    ]
    return Explanation(sorted(parts, key=lambda part: -abs(part.product)), query.dot(document))


def match_terms(query: SparseVector, document: SparseVector | None) -> dict[str | int, float]:
    """What each shared term adds to the score, by token or index, the heaviest first; nothing without a vector."""
    return {} if document is None else {part.term: part.product for part in explain(query, document).contributions}
