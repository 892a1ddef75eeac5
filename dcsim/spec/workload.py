"""Workloads: which requests arrive, when, and how long they are.

Five kinds. `replay` serves a trace's rows as they were; `bootstrap` draws blocks of its rows; `synthetic` and
`sessions` generate arrivals and lengths; `closed` has users who wait for their answer before they ask again.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from dcsim.spec.section import Count, Events, Fraction, Named, Positive, Section, Time, entries, some

LATEST_S = 9e6  # the cluster counts picoseconds in 64 bits, which end after 106 days
Factor = Annotated[float, Field(gt=0, le=1e15)]
# Stretches of a workload's time: shorter ones than a millisecond change no result, and an hour would hold billions.
Stretch = Annotated[Time, Field(ge=1e-3)]
FormatName = Literal["auto", "azure-2023", "azure-2024", "burstgpt", "bailian", "mooncake", "vidur", "columns"]
ArrivalUnit = Literal["s", "ms", "us", "ns", "date"]


class TraceColumns(Section):
    """Which columns of a CSV, JSONL or Parquet file hold what."""

    arrival: str = Field(description="Column of the arrival time.")
    arrival_unit: ArrivalUnit = Field(default="s", description="Unit of the arrival column; `date` for written dates with time.")
    prompt_tokens: str = Field(description="Column of the prompt's tokens.")
    output_tokens: str = Field(description="Column of the answer's tokens.")
    failed: Literal["error", "drop"] = Field(
        default="error", description="A row without output tokens: broken, or a failed request to leave out."
    )


class TraceSpec(Section):
    """A file of requests and the part of it to use."""

    file: str = Field(description="Path, or the name of a file in workloads/traces.")
    format: FormatName = Field(default="auto", description="`auto` tells by the column names; `columns` uses the map below.")
    columns: TraceColumns | None = Field(default=None, description="Column names of any other file (format `columns`).")
    arrival_unit: ArrivalUnit | None = Field(
        default=None, description="Unit of the arrival column, where the format's is not right or cannot be told."
    )
    start_s: Time = Field(default=0.0, ge=0, description="Leave out the rows before this time from the first row.")
    window_s: Time = Field(default=0.0, ge=0, description="Length of the part to use; 0: to the end.")
    unsorted: Literal["error", "sort"] = Field(
        default="error", description="A row that arrives before the row above it: broken, or moved, whole, to its place."
    )
    prefix_block_tokens: Count = Field(
        default=0,
        le=1_000_000,
        description="Tokens of a block of `hash_ids`, by which replicas know prompts that begin alike (Mooncake's have 512, "
        "Bailian's 16); 0: the column is not read.",
    )

    @model_validator(mode="after")
    def _columns_go_with_format(self) -> TraceSpec:
        if (self.format == "columns") != (self.columns is not None):
            raise ValueError("`format: columns` and a `columns` map go together")
        return self


def _file_alone(value: Any) -> Any:
    return {"file": value} if isinstance(value, str) else value


Trace = Annotated[TraceSpec, BeforeValidator(_file_alone)]


class ClassSpec(Section):
    """A class of requests with its own urgency and target. Requests are assigned at random by share."""

    name: str = Field(min_length=1, description="How results call it.")
    share: Factor = Field(description="Weight of this class among all.")
    priority: int = Field(default=0, description="Higher is served first.")
    ttft_s: Time = Field(default=0.0, ge=0, description="Target time to first token; 0: the topology's.")
    tpot_s: Time = Field(default=0.0, ge=0, description="Target time per output token; 0: the topology's.")


class Constant(Section):
    """The same rate all the time."""

    kind: Literal["constant"]
    mean_per_s: Events = Field(gt=0, description="Arrivals per second.")


class RatePiece(Section):
    """A stretch of time with one rate."""

    duration_s: Stretch = Field(description="Length of the stretch.")
    rate_per_s: Events = Field(ge=0, description="Arrivals per second in it.")


class Pieces(Section):
    """Rates in turn, over and over."""

    kind: Literal["pieces"]
    pieces: Annotated[tuple[RatePiece, ...], AfterValidator(some)]

    @model_validator(mode="after")
    def _some_arrivals(self) -> Pieces:
        if not any(piece.rate_per_s > 0 for piece in self.pieces):
            raise ValueError("at least one piece needs a rate above 0")
        return self


class DayCurve(Section):
    """A day: relative rates at the middle of each hour, straight lines between them, every day alike."""

    kind: Literal["day"]
    mean_per_s: Events = Field(gt=0, description="Arrivals per second, averaged over the day.")
    hours: Annotated[tuple[Annotated[float, Field(ge=0, le=1e6)], ...], entries(24, 24)] = Field(
        description="24 relative rates from midnight on."
    )

    @model_validator(mode="after")
    def _some_arrivals(self) -> DayCurve:
        if sum(self.hours) <= 0:
            raise ValueError("at least one hour needs a rate above 0")
        return self


class TracedRate(Section):
    """The rate of a trace, counted in pieces, over and over."""

    kind: Literal["trace"]
    trace: Trace
    piece_s: Stretch = Field(default=30.0, description="Length of a piece; the rate is constant within it.")
    mean_per_s: Events = Field(default=0.0, ge=0, description="Arrivals per second to scale to; 0: the trace's own.")


RateSpec = Annotated[Constant | Pieces | DayCurve | TracedRate, Field(discriminator="kind")]


class Bursts(Section):
    """Two states in turn, each of exponential length; the mean rate is kept."""

    on_s: Stretch = Field(description="Mean length of a burst.")
    off_s: Stretch = Field(description="Mean length of a lull.")
    lull_fraction: Fraction = Field(default=0.0, description="Rate in a lull over rate in a burst.")


class Noise(Section):
    """Slow random swings of the rate: a lognormal factor per piece, tied to the one before; mean 1."""

    piece_s: Stretch = Field(default=30.0, description="Length of a piece.")
    cv: Annotated[float, Field(ge=0)] = Field(description="Standard deviation of the factor over its mean.")
    persistence: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.0, description="Correlation of the logarithms of successive pieces' factors."
    )


class ArrivalSpec(Section):
    """A random arrival process: gaps drawn at unit rate, stretched so that the rate follows the given one."""

    rate: RateSpec
    process: Literal["poisson", "gamma"] = Field(default="poisson", description="Exponential gaps, or gamma gaps of a given cv.")
    cv: Factor = Field(default=1.0, description="Standard deviation over mean of gamma gaps at a constant rate.")
    bursts: Bursts | None = Field(default=None, description="On/off bursts on top of the rate.")
    noise: Noise | None = Field(default=None, description="Slow random swings on top of the rate.")


class TokenCount(Section):
    """A lognormal number of tokens: `fixed` + round(median * exp(sigma * normal)), kept within 1..max."""

    median: Factor = Field(description="Median of the drawn part.")
    sigma: Annotated[float, Field(ge=0)] = Field(
        default=0.0, description="Standard deviation of its logarithm; 0: always the median."
    )
    fixed: Count = Field(default=0, description="Tokens every request has besides: an image, an instruction.")
    max: Positive = Field(
        default=1_000_000, le=1_000_000_000, description="Most tokens, the fixed ones included; larger draws are cut to it."
    )

    @model_validator(mode="after")
    def _room_above_fixed(self) -> TokenCount:
        if self.max < self.fixed:
            raise ValueError("`max` is below `fixed`")
        return self


class LognormalLengths(Section):
    """Prompt and output drawn apart from each other."""

    kind: Literal["lognormal"]
    prompt_tokens: TokenCount
    output_tokens: TokenCount


class TracedLengths(Section):
    """Prompt and output of a trace's rows, drawn in blocks of consecutive rows: pairs and runs are kept.

    The tie between the rate and the lengths is lost; `bootstrap` keeps it.
    """

    kind: Literal["trace"]
    trace: Trace
    block_rows: Positive = Field(default=100, description="Consecutive rows drawn at once; 1: single rows.")


class TokenSpan(Section):
    """From the fewest tokens to the most."""

    min: Positive = Field(le=1_000_000_000, description="Fewest tokens.")
    max: Positive = Field(le=1_000_000_000, description="Most tokens.")

    @model_validator(mode="after")
    def _ascends(self) -> TokenSpan:
        if self.max < self.min:
            raise ValueError("`max` is below `min`")
        return self


class UniformLengths(Section):
    """Prompt and output drawn apart from each other, every whole number of tokens as likely."""

    kind: Literal["uniform"]
    prompt_tokens: TokenSpan
    output_tokens: TokenSpan


LengthSpec = Annotated[LognormalLengths | UniformLengths | TracedLengths, Field(discriminator="kind")]


class _Workload(Named):
    """What every kind has. `duration` is simulated time, counted after scaling."""

    rate_scale: Factor = Field(
        default=1.0, description="Arrivals come this many times as fast; in a closed loop, times the users."
    )
    output_scale: Annotated[float, Field(gt=0, le=1e4)] = Field(
        default=1.0, description="Answers are this many times as long, rounded, at least one token."
    )
    duration_s: Time = Field(
        default=0.0,
        ge=0,
        le=LATEST_S,
        description="Length of the run, whose requests arrive before it ends; 0: until the last request is done.",
    )
    requests: Count = Field(default=0, description="At most this many requests; 0: no such limit.")
    classes: tuple[ClassSpec, ...] = Field(default=(), description="Classes of requests; none: all alike.")

    @model_validator(mode="after")
    def _class_names_differ(self) -> _Workload:
        names = [entry.name for entry in self.classes]
        if len(set(names)) < len(names):
            raise ValueError("two classes share a name")
        return self


class _Endless(_Workload):
    """A generator that has no end of its own."""

    @model_validator(mode="after")
    def _ends(self) -> _Endless:
        if not self.duration_s and not self.requests:
            raise ValueError("needs a `duration` or a number of `requests`")
        return self


class ReplayWorkload(_Workload):
    """A trace's rows, each as it was: arrival, prompt and output stay together."""

    kind: Literal["replay"]
    trace: Trace
    repeat: Positive = Field(default=1, description="Times the rows are served, one after another.")


class BootstrapWorkload(_Endless):
    """Moving blocks: stretches of a trace drawn at random (with wrap-around) and laid end to end.

    Within a block the rows keep their gaps, lengths and order, hence swings of the rate shorter than a block
    and their tie to the lengths.
    """

    kind: Literal["bootstrap"]
    trace: Trace
    block_s: Stretch = Field(default=300.0, description="Length of a block, in the trace's time.")
    mean_per_s: Events = Field(default=0.0, ge=0, description="Arrivals per second to compress time to; 0: the trace's own.")


class SyntheticWorkload(_Endless):
    """Generated arrivals with lengths drawn beside them."""

    kind: Literal["synthetic"]
    arrivals: ArrivalSpec
    lengths: LengthSpec


class SessionsWorkload(_Endless):
    """Conversations: every turn's prompt is all that was said before and a new message.

    The next turn comes after the answer (`answer_token` for each of its tokens) and a pause to think. The
    table is open loop: a slow cluster does not delay it (in `closed` it does).
    """

    kind: Literal["sessions"]
    arrivals: ArrivalSpec = Field(description="Arrivals of new conversations.")
    lengths: LengthSpec = Field(description="Tokens of one message and of its answer.")
    turns_mean: Annotated[float, Field(ge=1)] = Field(description="Mean turns of a conversation (geometric).")
    think_s: Time = Field(gt=0, description="Mean pause between an answer and the next message (exponential).")
    answer_token_s: Time = Field(default=0.0, ge=0, description="Time an answer takes, for each of its tokens.")
    context_max: Annotated[int, Field(ge=2, strict=True)] = Field(
        description="A conversation ends before prompt and answer would exceed this."
    )


class ClosedWorkload(_Workload):
    """A fixed number of users; each asks, waits for the whole answer, thinks, and asks again."""

    kind: Literal["closed"]
    users: Positive = Field(le=1_000_000, description="Users at the same time.")
    think_s: Time = Field(ge=0, description="Mean pause between an answer and the next request (exponential).")
    lengths: LengthSpec
    requests_per_user: Positive = Field(default=100, description="Requests a user makes at most.")


WorkloadSpec = Annotated[
    ReplayWorkload | BootstrapWorkload | SyntheticWorkload | SessionsWorkload | ClosedWorkload,
    Field(discriminator="kind"),
]
