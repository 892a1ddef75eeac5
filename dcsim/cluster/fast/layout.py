"""How the compiled pool lays out its state: columns of its arrays and their meaning (see `pool_kernel`).

Numba does not see that this file has changed: after an edit here, remove the `__pycache__` folder beside it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

# Columns of `requests`, one row a request. GIVEN is at joining until the request ends; LEVEL 0 is served first; USER is
# who asked, in a closed loop; JOIN counts the replica's sequences. SOURCE has read it and still holds its KV, which
# another replica fetches since FETCHED.
(
    ARRIVAL,
    PROMPT,
    OUTPUT,
    KLASS,
    HOST,
    REPLICA,
    READY,
    ADMITTED,
    FIRST,
    FINISHED,
    GIVEN,
    READ,
    MADE,
    LATE,
    JOINED,
    BUCKET,
    END,
    NEXT,
    STATUS,
    REASON,
    LEVEL,
    SESSION,
    PREFIX,
    REUSED,
    REPLAYS,
    USER,
    JOIN,
    SOURCE,
    FETCHED,
) = range(29)
REQUEST_COLUMNS = 29
OPEN, FINISHED_STATUS, REJECTED_STATUS = range(3)
HOST_FULL, NEVER_FITS, QUEUE_FULL = range(1, 4)  # REASON

# Columns of `replicas`. Waiting requests, from WAITING_ENDS on two columns a level (head and tail), and prompts are lists linked
# through NEXT. KEPT_FIRST and KEPT_NEXT count all turns ever kept: the first that may still be there, and the next; KEPT_KNOWN
# are slots taken in the table. UNTIL_ERROR and NEXT_DRAW see `reruns_kernel`; HAZARD is that of a round under way without
# a marked iteration, RERUN the time and RERUN_WORK the work of what runs again in it. CLEAN and DRAIN are as in
# `programs.Round`; rounds ended at ENDED, and the last micro-batch of those in flight is through at DRAINED. BUDGET is what the
# rounds under way read of prompts at most; AT_START are the tokens that all sequences would have had at step 0, JOINS how many
# there were so far. Where prefill and decode are apart, COPYING hold room for KV on its way or about to be; PASSED have been
# read in the round that ends, LANDED decode from the next.
(
    SINCE,
    ROUNDS,
    LENGTH,
    LEAD,
    LATENCY,
    OCCUPANCY,
    ALONE,
    DECODES,
    RUNNING,
    STEP,
    COUNT,
    TOP,
    LATES,
    KV_FREE,
    WAITING,
    PROMPT_HEAD,
    PROMPT_TAIL,
    PROMPTS,
    BLOCKED,
    WHY,
    CAME,
    CAME_SUM,
    PROGRAM,
    IN_PROGRAM,
    WORK,
    ROUND_WORK,
    KEPT_FIRST,
    KEPT_NEXT,
    KEPT_TOTAL,
    KEPT_KNOWN,
    UNTIL_ERROR,
    NEXT_DRAW,
    HAZARD,
    RERUN,
    RERUN_WORK,
    CLEAN,
    DRAIN,
    DRAINED,
    ENDED,
    BUDGET,
    AT_START,
    JOINS,
    COPYING,
    PASSED_HEAD,
    PASSED_TAIL,
    LANDED_HEAD,
    LANDED_TAIL,
    WAITING_ENDS,
) = range(48)
WAKE, LOAD = range(2)  # rows of `looked_at`

# Entries of `now`: AREA and the limits are emptied by the caller at every return, before they outgrow 63 bits. In a closed loop
# THINKING users have still to ask and ACTIVE ones may ask again; all was done at DONE_AT, when the last of them had gone.
# PASSING is the replica that passes on what it has read, BEGINNING the one whose next rounds begin now, counted from 1 (less
# than 0 once it has admitted who waits); REPLICA_DUE is the one that wakes first. NEED_COUNT, NEED_BUCKET and
# NEED_CHUNKS say what: sequences, their compiled context (or step of the mean context) and chunks. ROUNDS_USED are places taken
# in `rounds`, and ANSWERED whether `answer` holds what was asked. SENDS are KV about to be sent (less than 0 once the caller
# has said when it is there), SENT how often that happened, LANDINGS those on their way.
(
    NOW,
    NEXT_ARRIVAL,
    KNOWN,
    MORE,
    BASE,
    IN_SYSTEM,
    AREA,
    CHANGED,
    CLOSED,
    LAST_CLOSE,
    READY_COUNT,
    GAPS_USED,
    NEXT_HOST,
    TURN,
    NEED_COUNT,
    NEED_BUCKET,
    NEXT_SAMPLE,
    SAMPLES,
    TIGHT,
    FULL,
    EVENTS,
    THINKING,
    ACTIVE,
    DONE_AT,
    BEGINNING,
    NEED_CHUNKS,
    ROUNDS_USED,
    ANSWERED,
    DECODE_TURN,
    SENDS,
    SENT,
    LANDINGS,
    PASSING,
    REPLICA_DUE,
    EVENT,
) = range(35)
NOW_ENTRIES = 35
LANDS, STANDS_READY, COMES, WAKES = range(4)  # EVENT: of those at one instant the first

# Entries of `fixed`. Under a serving ENGINE a round holds whatever tokens there are; with GROWS sequences hold what they store.
(
    KV,
    SEQUENCES_MAX,
    QUEUE_MAX,
    HOST_QUEUE_MAX,
    CHUNK,
    PREFILL_MAX,
    BATCHING,
    ROUTER,
    REUSE,
    SWITCH,
    REPLY,
    SKIP,
    REQUEST_PS,
    TOKENISE_PS,
    BUS_PS,
    BUS_TOKEN_PS,
    SAMPLE_PS,
    LLM_CONTEXT,
    TOKEN_PJ,
    ASKS_MAX,
    ASK_UNTIL,
    ENGINE,
    GROWS,
    STEP_TOKENS,
    READERS,
) = range(25)
FIXED_ENTRIES = 25
LEAST_LOADED, ROUND_ROBIN, BY_SESSION = range(3)  # ROUTER
CONTINUOUS, PREFILL_FIRST, STATIC = range(3)  # BATCHING
FIRST_PLACE, WAITERS, BOOKED = range(3)  # columns of `hosts`
ASK_THINK, ASK_PROMPT, ASK_OUTPUT = range(3)  # columns of `asks`

# What `advance` returns.
(
    REACHED,
    NEED_DECODE,
    NEED_CHUNK,
    NEED_GAPS,
    NEED_ARRIVALS,
    NEED_SAMPLES,
    NEED_SUMS,
    NEED_TIDY,
    NEED_DRAWS,
    NEED_ROUND,
    NEED_COPIES,
) = range(11)
GO_ON = -1  # what needs nothing
SUM_MAX = 2**60  # of AREA, which no limit outgrows by much, and of WORK
NEVER = np.iinfo(np.int64).max
NONE = -1

# As in `rows.LIMITS`.
L_HOST, L_KV, L_SLOTS, L_BATCH, L_PREFILL, L_PIPELINE, L_POWER, L_LATENCY, L_SWITCH, L_COPIES, L_FAULT = range(11)


class PoolState(NamedTuple):
    """int64 arrays, but for `caps`; the first index is the replica or host where one is named.

    Every call within the kernel copies what describes them, so few long arrays are faster than many, and a function that one
    other calls is a `leaf`, which is put in its place: with parts a request took five times as long.
    """

    now: Any  # [NOW_ENTRIES]
    fixed: Any  # [FIXED_ENTRIES]
    requests: Any  # [index - BASE, column]
    replicas: Any  # [replica, column]
    looked_at: Any  # [row, replica] what all replicas are searched by, side by side: when each wakes, requests it has
    caps: Any  # see `power.caps_kernel`
    kept: Any  # [replica, place, 2] see `kept_kernel`
    sequences: Any  # [replica, place, 2] heap of (step of next change, request) of decoding sequences
    in_bucket: Any  # [replica, compiled context] sequences that need it
    cores: Any  # [host, core] when each is free
    starts: Any  # [host, place] ring of start times of requests that wait for a core
    hosts: Any  # [host, column]
    ready: Any  # [place, 2] heap of (time, request) on their way from hosts to replicas
    contexts: Any  # [compiled context] tokens
    costs: Any  # [tokens] KV room that a sequence of so many takes (`SequenceRoom.cost`); empty: as many
    decode: Any  # [sequences, compiled context, 7] latency, occupancy, alone, program, hazard, batch, grid; latency 0: unknown
    decode_pj: Any  # [sequences, compiled context] picojoules above waiting
    chunk: Any  # [compiled context, 4] latency, occupancy, program, hazard; latency 0: not yet known
    chunk_pj: Any  # [compiled context] picojoules above waiting
    rounds: (
        Any  # [place, 4] hash table of (key, latency, alone, picojoules) of an engine's rounds without prompts; latency 0: free
    )
    chunks: Any  # [place, 3] (start, stop, whether it ends there) of prompts in an engine's round that is asked for
    answer: Any  # [3] latency, alone and picojoules of it
    gaps: Any  # [place, 2] hash table of (gap, count); count 0: free
    limits: Any  # [LIMITS] request-picoseconds
    samples: Any  # [place, replica, 2] time in a program, and work in picojoules, at the end of the samples taken
    host_samples: Any  # [place, host] core time spent by each host then
    busy: Any  # [host] cores at work now, where there are caps
    backlog: Any  # [host] core time still to be spent, where there are caps
    sends: Any  # [place, 2] (request, when it is there) of KV about to be sent
    landings: Any  # [place, 2] heap of (when it is there, how manieth << 31 | request) of KV on its way
    draws: Any  # [replica, place] hazard that passes from one bit error to the next
    thinking: Any  # [place, 2] heap of (when, user) of those who have still to ask
    asks: Any  # [user, number, 3] what each asks in turn: time to think before, prompt and output tokens
    asked: Any  # [user] how often each has asked; of an open loop there are none
