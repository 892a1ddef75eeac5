"""A served job as it was run and what was measured of it, whatever file it stands in."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Degrees:
    """How one copy of the LLM, or one pool of them, is laid over chips.

    `tp` chips share each attention, and there are `attention_dp` such groups, each with sequences of its own. Feed-forward blocks
    are cut over all of these chips together; experts into `ep` groups of whole ones.
    """

    tp: int = 1
    pp: int = 1
    attention_dp: int = 1
    ep: int = 1
    workers: int = 1

    @property
    def chips(self) -> int:
        """Chips of all workers."""
        return self.tp * self.pp * self.attention_dp * self.workers

    def __str__(self) -> str:
        named = {"tp": self.tp, "pp": self.pp, "dp": self.attention_dp, "ep": self.ep}
        degrees = " ".join(f"{name}{value}" for name, value in named.items() if value > 1 or name == "tp")
        return degrees if self.workers == 1 else f"{self.workers} x {degrees}"


@dataclass(frozen=True, slots=True)
class Measured:
    """Means over requests, in seconds; tokens per second of all chips together. None: not given."""

    ttft_s: float | None = None
    tpot_s: float | None = None
    output_tokens_per_s: float | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """`prompt` and `output` are the fewest and the most tokens of a request, drawn evenly between.

    `concurrency` requests are in flight, as soon as one ends the next begins, `requests` in all (0: 10 x `concurrency`).
    With `reads` its workers read prompts and those of `degrees` decode.
    """

    id: str
    system: str
    llm: str
    library: str
    precision: str
    prompt: tuple[int, int]
    output: tuple[int, int]
    concurrency: int
    degrees: Degrees
    measured: Measured
    requests: int = 0
    reads: Degrees | None = None
    drafts: bool = False  # multi-token prediction was on
    problem: str = ""  # why this row is no job
    terms: dict[str, str] = field(default_factory=dict, compare=False)

    @property
    def requests_all(self) -> int:
        """How many requests the client sends."""
        return self.requests or 10 * self.concurrency

    @property
    def degree(self) -> str:
        """How tables call its layout."""
        return f"{self.reads} + {self.degrees}" if self.reads else str(self.degrees)
