"""`phosphene reindex`: what is asked for, how far it is, and how it ended."""

from __future__ import annotations

import math
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TextIO

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as RichBar

from phosphene.catalog.records import ReindexState
from phosphene.cli import output
from phosphene.cli.options import ApiKey, Data, Json, Server, backend
from phosphene.errors import InvalidInput
from phosphene.evaluation.golden import read_golden
from search_api.schemas import GoldenIn, ReindexAction, ReindexOut, ReindexRequest, ReindexStatus

POLL_S = 0.3
SWITCH_S = 60.0  # so long other processes are waited for that are to answer with another model
PLAIN_EVERY_S = 10.0
_SAID = {
    ReindexState.BUILDING: "embedding with the new model",
    ReindexState.CHECKING: "calibrating and comparing",
    ReindexState.READY: "waiting for what has just come in",
    ReindexState.FINISHED: "dropping the space before",
    ReindexState.ABORTED: "dropping the new space",
}


def reindex(
    target: Annotated[
        str | None,
        typer.Option("--model", help="Move to this model: OpenCLIP name/tag, folder, hf-hub: name, starter."),
    ] = None,
    status: Annotated[bool, typer.Option("--status", help="Say how it stands.")] = False,
    swap: Annotated[
        bool, typer.Option("--swap", help="Let the new model answer, after --no-swap or --rollback.")
    ] = False,
    rollback: Annotated[bool, typer.Option("--rollback", help="Let the model before answer again, at once.")] = False,
    finish: Annotated[bool, typer.Option("--finish", help="Drop the space of the model before.")] = False,
    abort: Annotated[bool, typer.Option("--abort", help="Drop the new space.")] = False,
    golden: Annotated[
        Path | None, typer.Option(help="Golden queries that both models are asked, as phosphene evaluate takes them.")
    ] = None,
    tolerance: Annotated[
        float, typer.Option(min=0, max=1, help="By how much recall@10 and nDCG@10 of --golden may be worse.")
    ] = 0.02,
    least_recall: Annotated[
        float, typer.Option(min=0, max=1, help="Recall@10 of the new index against exact comparison.")
    ] = 0.95,
    max_missing: Annotated[int, typer.Option(min=0, help="Pictures that the new model may be unable to embed.")] = 0,
    auto_swap: Annotated[bool, typer.Option("--auto-swap/--no-swap", help="Answer as soon as all is passed.")] = True,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Leave it to the server or the workers.")] = False,
    data: Data = None,
    server: Server = None,
    api_key: ApiKey = None,
    json: Json = False,
) -> None:
    """Move the catalogue to another model while it is searched; run again, it goes on. Exit status 1: not passed."""
    named: dict[ReindexAction, bool] = {"swap": swap, "rollback": rollback, "finish": finish, "abort": abort}
    wanted = asked(
        model=target,
        actions=[name for name, given in named.items() if given],
        golden=golden,
        tolerance=tolerance,
        least_recall=least_recall,
        max_missing=max_missing,
        swap=auto_swap,
    )
    if status and wanted is not None:
        raise InvalidInput("--status only looks: leave the others out")
    with backend("reindex", data=data, model=None, server=server, api_key=api_key) as opened:
        now = opened.reindex(wanted, wait=not no_wait)
        if wanted is not None and not no_wait:
            now = opened.await_reindex()
    output.reindexed(now, lines(now), as_json=json)
    if wanted is not None and now.reindex is not None and now.reindex.state is ReindexState.REFUSED:
        raise typer.Exit(1)


def asked(
    *,
    model: str | None,
    actions: list[ReindexAction],
    golden: Path | None,
    tolerance: float,
    least_recall: float,
    max_missing: int,
    swap: bool,
) -> ReindexRequest | ReindexAction | None:
    """Read the options: a model to move to, something to be done with a change, or None, its status.

    Raises InvalidInput where they contradict each other.
    """
    if len(actions) + (model is not None) > 1:
        raise InvalidInput("give one of --model, --status, --swap, --rollback, --finish and --abort")
    if model is None:
        if golden is not None:
            raise InvalidInput("--golden goes with --model: the change keeps them")
        return actions[0] if actions else None
    return ReindexRequest(
        model=model,
        golden=[] if golden is None else [GoldenIn.of(query) for query in read_golden(golden)],
        tolerance=tolerance,
        least_recall=least_recall,
        max_missing=max_missing,
        swap=swap,
    )


def ended(status: ReindexStatus) -> bool:
    """Tell whether nothing more happens by itself."""
    now = status.reindex
    if now is None or now.dropped:
        return True
    if now.state is ReindexState.READY:
        return not now.swap
    return now.state in (ReindexState.REFUSED, ReindexState.SWAPPED)


def await_end(read: Callable[[], ReindexStatus], step: Callable[[], bool]) -> ReindexStatus:
    """Show how far it is until it has ended, and the processes that are up answer accordingly.

    `step` does some of it, and tells whether there is more at once. Processes that don't go over are not waited for
    longer than SWITCH_S.
    """
    bar = ReindexBar()
    leave_at = math.inf
    try:
        while not (ended(status := read()) and (status.switched or time.monotonic() >= leave_at)):
            if ended(status):
                leave_at = min(leave_at, time.monotonic() + SWITCH_S)
            bar.report(status.reindex)
            if not step():
                time.sleep(POLL_S)
    except KeyboardInterrupt:
        bar.close()
        output.note("stopped; what is done is kept: the same command goes on")
        raise
    finally:
        bar.close()
    return status


class ReindexBar:
    """How far a change is, on stderr: a bar on a terminal, a line every few seconds elsewhere."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._next = time.monotonic() + PLAIN_EVERY_S
        self._error: str | None = None
        self._bar: RichBar | None = None
        if self._stream.isatty():
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[left]}"),
            )
            self._bar = RichBar(*columns, console=Console(file=self._stream), transient=True)
            self._task = self._bar.add_task("", total=None, left="")
            self._bar.start()

    def report(self, now: ReindexOut | None) -> None:
        """Show how far it is."""
        if now is None:
            return
        if now.error is not None and now.error != self._error:
            output.note(f"phosphene: it does not get on, and is tried again: {now.error}")
        self._error = now.error
        said, left = _SAID.get(now.state, now.state.value), _left(now)
        if self._bar is not None:
            self._bar.update(self._task, description=said, completed=now.done, total=now.total, left=left)
        elif time.monotonic() >= self._next:
            self._next = time.monotonic() + PLAIN_EVERY_S
            output.note(f"{said}: {now.done:,} of {now.total:,}{', ' if left else ''}{left}")

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()


def lines(status: ReindexStatus) -> list[str]:
    """Say in words how it stands, and what can be done."""
    now = status.reindex
    said = [f"{status.answers} answers (space {status.space})", *_told_of(status)]
    if now is None:
        return [*said, "the model was never changed: phosphene reindex --model NAME moves to another one"]
    said.append(f"{now.before} -> {now.after}: {_standing(now)}")
    said += [f"  {gate.name}: {'passed' if gate.passed else 'NOT passed'}: {gate.detail}" for gate in now.gates]
    if now.error is not None:
        said.append(f"  it does not get on just now: {now.error}")
    return said


def _told_of(status: ReindexStatus) -> list[str]:
    """Say which processes are up, and name those that answer otherwise."""
    if not status.processes:
        return []
    roles = Counter(one.role.value for one in status.processes)
    up = " and ".join(f"{count} {role}{'' if count == 1 else 's'}" for role, count in sorted(roles.items()))
    if status.switched:
        return [f"  {up} up, all with the space that is to answer"]
    others = Counter(one.space for one in status.processes)
    return [
        f"  {up} up; not all have gone over yet: "
        + ", ".join(f"{n} with {space}" for space, n in others.most_common()),
        *(f"    {one.role.value} {one.name}: {one.space}" for one in status.processes),
    ]


def _standing(now: ReindexOut) -> str:
    again = f"phosphene reindex --model {now.after}"
    match now.state:
        case ReindexState.BUILDING:
            left = _left(now)
            return f"{now.done:,} of {now.total:,} pictures embedded{', ' if left else ''}{left}; --abort gives it up"
        case ReindexState.CHECKING:
            return "all embedded; being calibrated and compared"
        case ReindexState.REFUSED:
            return f"not passed; {again} with other figures asks again (see --help), --abort gives it up"
        case ReindexState.READY:
            wanted = "about to answer" if now.swap else "--swap lets it answer, --abort gives it up"
            return f"ready and kept in step; {wanted}"
        case ReindexState.SWAPPED:
            return "swapped; both are kept in step; --rollback goes back, --finish drops the space before"
        case ReindexState.FINISHED:
            return "finished" + ("" if now.dropped else "; the space before is being dropped")
        case ReindexState.ABORTED:
            return "given up" + ("" if now.dropped else "; the new space is being dropped")


def _left(now: ReindexOut) -> str:
    if now.remaining_s is None or not now.pace:
        return ""
    minutes, seconds = divmod(round(now.remaining_s), 60)
    hours, minutes = divmod(minutes, 60)
    left = f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
    return f"{now.pace:,.1f} a second, {left} left"
