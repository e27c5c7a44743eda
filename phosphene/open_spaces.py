"""Which spaces are open in this process, and which of them answers: the catalogue says so once the model was changed.

Before the first change of the model the settings say it. From then on the catalogue does, whatever PHOSPHENE_MODEL is:
a restart with the old setting must neither go back silently nor mix.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from time import monotonic

from phosphene.catalog.records import NamedSpace, Serving
from phosphene.catalog.reindexes import Reindexes
from phosphene.errors import PhospheneError
from phosphene.model_files import full_name
from phosphene.open_space import OpenSpace
from phosphene.settings import Settings
from phosphene.types import Space, SpaceId

LOOK_S = 1.0  # between two looks whether another space is to answer
LOOK_AGAIN_S = 30.0  # the same where that could not be opened

log = logging.getLogger(__name__)


class OpenSpaces:
    """The spaces of one engine. Thread-safe. `make` opens one by its model, and its space where that is known."""

    def __init__(
        self, reindexes: Reindexes, *, settings: Settings, make: Callable[[str, Space | None], OpenSpace]
    ) -> None:
        self._reindexes, self._settings, self._make = reindexes, settings, make
        self._lock = threading.RLock()
        self._following = threading.Lock()
        self._looking = threading.Lock()
        self._look_at = self._follow_at = 0.0  # by time.monotonic(), not before
        self._given_up = False  # the space that answers here is no longer written: it may be dropped at any time
        self._current: OpenSpace | None = None
        self._others: dict[SpaceId, OpenSpace] = {}

    @property
    def current(self) -> OpenSpace:
        """The space that answers questions."""
        with self._lock:
            if self._current is None:
                serving = self._reindexes.serving()
                if serving is None:
                    self._current = self._make(self._settings.model, None)
                else:
                    said = overruled(self._settings, serving)
                    if said is not None:
                        log.warning(said)
                    self._current = self.open(serving.answers)
            return self._current

    @contextlib.contextmanager
    def answering(self) -> Iterator[OpenSpace]:
        """Hold the space that answers questions, so that it stays open.

        Looks now and then whether another space is to answer. That one is opened in the background, while this one goes
        on to answer; where this one is given up already, as after a long idle time, the question waits.
        """
        self.look()
        with self.holding() as space:
            yield space

    @contextlib.contextmanager
    def holding(self) -> Iterator[OpenSpace]:
        """Hold the space that answers questions here, without asking the catalogue whether another one is to."""
        with contextlib.ExitStack() as holding:
            with self._lock:
                space = holding.enter_context(self.current.held())
            yield space

    def look(self) -> None:
        """Look whether another space is to answer, as `answering` does."""
        self._look()
        if self._given_up:
            self._follow_or_say_why()

    def written(self) -> list[OpenSpace]:
        """Give the spaces that writes go to, that which answers first.

        Asked after the catalogue was written: a space whose building begins later reads what was written.
        """
        serving = self._reindexes.serving()
        return [self.current] if serving is None else [self.open(one) for one in serving.written]

    @contextlib.contextmanager
    def while_open(self, space: OpenSpace) -> Iterator[bool]:
        """Hold a space that `written` gave; False where it was let go of since: nobody asks it again."""
        with contextlib.ExitStack() as holding:
            with self._lock:
                there = space is self._current or space in self._others.values()
                if there:
                    holding.enter_context(space.held())
            yield there

    def open(self, named: NamedSpace) -> OpenSpace:
        """Give a space that the catalogue names."""
        with self._lock:
            if self._current is not None and self._current.space.id == named.space.id:
                return self._current
            if named.space.id not in self._others:
                self._others[named.space.id] = self._make(named.model, named.space)
            return self._others[named.space.id]

    def learn(self, model: str) -> NamedSpace:
        """Load a model to learn its space, which is recorded; it stays loaded. Raises ModelError."""
        fresh = self._make(full_name(model), None)
        named = NamedSpace(fresh.model, fresh.space)
        with self._lock:
            if named.space.id != self.current.space.id:
                self._others.setdefault(named.space.id, fresh)
        return named

    def follow(self) -> None:
        """Answer with the space that the catalogue names, from now on: takes as long as opening it does."""
        with self._following:
            while (serving := self._reindexes.serving()) is not None:
                if serving.answers.space.id == self.current.space.id:
                    return
                fresh = self.open(serving.answers)
                with fresh.held():
                    fresh.warm()
                with self._lock:
                    before, self._current = self.current, fresh
                    self._others[before.space.id] = before
                    self._others.pop(fresh.space.id, None)
                    self._given_up = False
                log.info("%s answers from now on, in place of %s", fresh.model, before.model)

    def opened(self, space: str) -> OpenSpace | None:
        """Give a space that is open here."""
        with self._lock:
            return next((one for one in (self.current, *self._others.values()) if one.space.id == space), None)

    def standing(self) -> tuple[SpaceId | None, frozenset[SpaceId]]:
        """Say which space answers here, and which are open, that one among them; None: none is open yet."""
        with self._lock:
            opened = [one for one in (self._current, *self._others.values()) if one is not None]
            known = [space for space in (one.space_if_known for one in opened) if space is not None]
            current = None if self._current is None else self._current.space_if_known
        return None if current is None else current.id, frozenset(space.id for space in known)

    def keep_up(self) -> None:
        """Answer with the space that the catalogue names, and close those that are no longer written.

        For processes that are not asked: a worker does it before each job.
        """
        self._follow_or_say_why()
        self._close_unwritten(self._reindexes.serving())

    def let_go(self, space: SpaceId, *, wait_s: float = 0.0) -> bool:
        """Close a space that is no longer asked or written; False where somebody still holds it."""
        with self._lock:
            found = self._others.get(space)
        if found is None:
            return True
        if not found.wait_until_free(wait_s):
            return False
        with self._lock:
            if not found.wait_until_free(0.0):  # somebody took hold of it in between
                return False
            self._others.pop(space, None)
        found.close()
        return True

    def close(self) -> None:
        """Close all of them."""
        with self._lock, contextlib.ExitStack() as closing:
            for space in (self._current, *self._others.values()):
                if space is not None:
                    closing.callback(space.close)
            self._current, self._others = None, {}

    def _look(self) -> None:
        if monotonic() < self._look_at or not self._looking.acquire(blocking=False):
            return
        try:
            self._look_at = monotonic() + LOOK_S
            serving = self._reindexes.serving()
            current = self.current.space.id
            self._given_up = serving is not None and current not in {one.space.id for one in serving.written}
            moved = serving is not None and serving.answers.space.id != current
            if moved and not self._given_up and not self._following.locked():
                threading.Thread(target=self._follow_or_say_why, name="swap", daemon=True).start()
            self._close_unwritten(serving)
        finally:
            self._looking.release()

    def _close_unwritten(self, serving: Serving | None) -> None:
        written = set() if serving is None else {one.space.id for one in serving.written}
        with self._lock:
            unwritten = [space for space in self._others if space not in written]
        for space in unwritten:
            self.let_go(space)

    def _follow_or_say_why(self) -> None:
        if monotonic() < self._follow_at:
            return
        try:
            self.follow()
        except Exception as error:  # noqa: BLE001  whatever is wrong with the new one, the old one goes on
            self._follow_at = monotonic() + LOOK_AGAIN_S
            reason = error if isinstance(error, PhospheneError) else f"{type(error).__name__}: {error}"
            log.error("%s goes on to answer, what is to take its place can't be opened: %s", self.current.model, reason)  # noqa: TRY400  in one line


def overruled(settings: Settings, serving: Serving) -> str | None:
    """Say it where the settings name another model than the one that the catalogue was moved to."""
    named, answers = full_name(settings.model), serving.answers.model
    if named == answers or "model" not in settings.model_fields_set:
        return None
    return (
        f"PHOSPHENE_MODEL is {named}, but the catalogue answers with {answers} since {serving.since:%Y-%m-%d %H:%M} "
        "UTC: set PHOSPHENE_MODEL to that, or change the model with `phosphene reindex`"
    )
