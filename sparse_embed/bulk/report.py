"""What a run has done: `Report`, from the first row to the last."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final, Self

LISTED: Final = 100  # rows that are listed by number; all are counted


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Counts over all runs of a command, as far as they were saved: in a Qdrant collection only ``rows``.

    Attributes:
        total: Rows in the source.
        rows: Rows that are done: embedded, blank or rejected.
        resumed: Rows of these that earlier runs had done.
        vectors: Vectors that were written, of both kinds.
        blank: Rows without a text; their vectors are null.
        blank_rows: Numbers of the first 100 of them, from 0.
        rejected: Rows that were left out.
        rejected_rows: The first 100 of them, with number, place and reason.
        tokens: Tokens billed for the rows that are done, as far as the provider said.
        requests: Requests sent for them.
        retries: Requests of these that were sent again.
        seconds: Time spent on them.
        cost: Price of the tokens, None if no price was given.
        finished: Whether the target is complete.
    """

    total: int = 0
    rows: int = 0
    resumed: int = 0
    vectors: int = 0
    blank: int = 0
    blank_rows: list[int] = field(default_factory=list)
    rejected: int = 0
    rejected_rows: list[dict[str, Any]] = field(default_factory=list)
    tokens: int = 0
    requests: int = 0
    retries: int = 0
    seconds: float = 0.0
    cost: float | None = None
    finished: bool = False

    def __add__(self, part: "Report") -> Self:
        """The counts of both."""
        summed = ("rows", "vectors", "blank", "rejected", "tokens", "requests", "retries", "seconds")
        return replace(
            self,
            **{name: getattr(self, name) + getattr(part, name) for name in summed},
            blank_rows=(self.blank_rows + part.blank_rows)[:LISTED],
            rejected_rows=(self.rejected_rows + part.rejected_rows)[:LISTED],
        )

    def priced(self, per_million: float | None) -> Self:
        """With the cost, at a price per million tokens."""
        return self if per_million is None else replace(self, cost=self.tokens * per_million / 1_000_000)

    def to_json(self) -> str:
        """All fields as a JSON object."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False)

    @classmethod
    def sum(cls, parts: Iterable["Report"]) -> "Report":
        """The counts of all."""
        return sum(parts, start=cls())
