"""A replica's room for what sequences keep: keys and values, or states.

What a sequence of so many tokens takes of it, `SequenceRoom.cost` says: as many tokens where all layers keep all of them, bytes
where windows cap that or states do not grow.

On compiled programs a request holds room for all it will ever store from admission to its end, so a sequence once begun never
stops for want of room. Under a serving engine it holds what it stores, which grows while it decodes (`growing`): nobody knows
beforehand how long an answer will be, and where room ends the sequence that joined last goes back to wait and is read anew.

What an ended turn of a session stored is kept while nobody needs the room; the session's next turn finds it there and reads only
the rest of its prompt. Room is made by dropping the turn that ended longest ago.

Where the blocks of prompts are known, whole blocks of ended requests' prompts stay instead, for whoever asks next
(`PrefixBlocks`). A request finds the longest run of its first blocks and reads the rest; those it found take their room once,
however many use them. Only where all layers keep all tokens: windows and states cannot go back to where a block ends.
"""

from __future__ import annotations

from collections.abc import Callable

from dcsim.cluster.request import Request
from dcsim.cluster.simpy.prefix_blocks import PrefixBlocks
from dcsim.llm.kv import SequenceRoom


class KvRoom:
    """What requests hold (`used`) and ended turns left (`kept_total`) never exceeds `capacity` together; all three in `room`'s
    unit.
    """

    def __init__(self, room: SequenceRoom, reuse: Callable[[], bool], growing: Callable[[], int] = lambda: 0) -> None:
        self.growing = growing  # what decoding sequences store now and one further token of each, beside `used`
        self.capacity, self._cost, self._reuse = room.capacity, room.cost, reuse  # asked only where a turn of a session ends
        self._all_or_none = not room.by_tokens
        self.used = 0
        self._held: dict[int, int] = {}  # request index -> tokens
        self.kept: dict[int, int] = {}  # session -> tokens, the one that ended longest ago first
        self.kept_total = 0
        self.blocks = PrefixBlocks()
        self._block_cost = 0  # what a block takes: all of a run have the same size
        self._shared: dict[int, tuple[tuple[int, ...], int]] = {}  # request index -> blocks it found, and what one takes

    def found(self, request: Request) -> int:
        """Leading tokens of a request's prompt that it would find here, at most all but one."""
        if request.session in self.kept:
            return self._usable(self.kept[request.session], min(request.prefix, request.prompt - 1))
        return min(len(self._found(request)) * request.block_tokens, request.prompt - 1)

    def _found(self, request: Request) -> tuple[int, ...]:
        """The first of the prompt's whole blocks that are here."""
        whole = self._whole(request)
        return whole[: self.blocks.found(whole)]

    def _whole(self, request: Request) -> tuple[int, ...]:
        if not request.block_tokens or self._all_or_none:
            return ()
        return request.blocks[: request.prompt // request.block_tokens]

    def fits(self, tokens: int) -> bool:
        """Whether room for `tokens` can be had now, dropping kept turns if need be."""
        return self.used + self.growing() + self._cost(tokens) <= self.capacity

    def take(self, request: Request, tokens: int, *, find: bool = True) -> None:
        """Hold room for `tokens`, which must fit; the request's `read` starts at what it finds here, unless it brings it all."""
        if find:
            self._find(request)
        self._held[request.index] = tokens
        self.used += self._cost(tokens)
        self._make_room()

    def _find(self, request: Request) -> None:
        reused = self.found(request)
        if request.session in self.kept:
            self.kept_total -= self._cost(self.kept.pop(request.session))
        else:
            self._share(request)
        request.read = reused
        request.reused += reused

    def _share(self, request: Request) -> None:
        """Pin what the request found: each block is held once, and no longer by the request itself."""
        found = self._found(request)
        if found:
            each = self._cost(request.block_tokens)
            were_free = self.blocks.pin(found)
            self.kept_total -= were_free * each
            self.used += (were_free - len(found)) * each
            self._shared[request.index] = found, each

    def _share_no_more(self, request: Request) -> None:
        found, each = self._shared.pop(request.index, ((), 0))
        now_free = self.blocks.unpin(found)
        self.used += (len(found) - now_free) * each
        self.kept_total += now_free * each

    def let_grow(self, request: Request) -> None:
        """The request decodes from now on: what it stores is counted as growing."""
        self.used -= self._cost(self._held.pop(request.index, 0))

    def give_back(self, request: Request, *, keep: bool = True) -> None:
        """The request's room is free again; an ended turn may stay while nobody needs the room."""
        self.used -= self._cost(self._held.pop(request.index, 0))
        self._share_no_more(request)
        if keep and (whole := self._whole(request)) and self._reuse():
            self.kept_total += self.blocks.add(whole) * self._cost(request.block_tokens)
            self._block_cost = self._cost(request.block_tokens)
            self._make_room()
        elif keep and request.session >= 0 and self._reuse():
            # The last token was never an input, so its key and value were never made.
            stored = request.prompt + request.given - 1
            self.kept_total += self._cost(stored) - self._cost(self.kept.pop(request.session, 0))
            self.kept[request.session] = stored
            self._make_room()

    def clear(self) -> None:
        """All contents are lost."""
        self.used = self.kept_total = 0
        self.kept.clear()
        self._held.clear()
        self._shared.clear()
        self.blocks.clear()

    def _usable(self, kept: int, shared: int) -> int:
        """Tokens of a kept turn that a prompt need not read again, if it begins with `shared` of them.

        Windows and states cannot go back to an earlier token: what they have dropped is gone.
        """
        if kept > shared and self._all_or_none:
            return 0
        return min(kept, shared)

    def _make_room(self) -> None:
        while self.kept and self.used + self.growing() + self.kept_total > self.capacity:
            self.kept_total -= self._cost(self.kept.pop(next(iter(self.kept))))
        while self.blocks.free and self.used + self.growing() + self.kept_total > self.capacity:
            self.blocks.drop()
            self.kept_total -= self._block_cost
