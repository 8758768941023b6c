"""featurekeyctl, the technician's tool: the command tree, and how a run ends.

The exit statuses stand in `exits`; the text below --help says the same, and a test compares the two.
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING

import click

from . import (
    bundle,
    dialogs,
    doctor,
    exporting,
    history,
    keeping,
    licensing,
    operating,
    proving,
    rehearsing,
    reserving,
    sizing,
)
from .call import DEFAULT_SOCKET, CallError
from .console import complain, forgive_encoding, is_closed, mute, no_room
from .exits import FILE_TROUBLE, INTERRUPTED, PIPE_CLOSED, WRONG_USAGE, FileTrouble, sentence, status_of
from .session import Session

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

COMPLETION = "_FEATUREKEYCTL_COMPLETE"
"""The variable in which a shell says that it wants a line completed, as the scripts of the package have it."""

EPILOG = """\b
The first time, in this order:
  featurekeyctl key                           is the Feature Key there?
  featurekeyctl request --output request.txt  send this file to the vendor
  featurekeyctl certificate import reply.txt  what the vendor sent back
  featurekeyctl import licenses.csv           the license list, or:
  featurekeyctl add 4Q7K-AB1D-...             one key by hand

\b
When calls are refused:
  featurekeyctl doctor                        what is wrong, why, and what to do
  featurekeyctl status                        what is wrong, and how long it may last
  featurekeyctl usage --by port               who uses how much
  featurekeyctl explain sip-trunk-channels --holder kamailio --key test
  featurekeyctl explain --call CALL-ID        what a call in progress holds, and by which license
  featurekeyctl watch --decisions             see the next call being refused
  featurekeyctl check                         what does not hold, and the cure of each
  featurekeyctl rescue                        the Feature Key has failed: a code from the vendor opens for 7 days

\b
Exit status:
    0  done, or allowed
    1  denied, not accepted, or the Feature Key is not present
    2  wrong usage
    3  the daemon is away
    4  permission is missing
    5  the daemon answered with an error, or with something that is no answer
    6  the daemon did not answer in time
    7  a file on this side or standard output could not be read or written
  130  interrupted (Ctrl-C)
  141  the reader of the output went away (a closed pipe)
"""


class InGivenOrder(click.Group):
    """A group that lists its verbs in the order of a technician's work."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click names and passes it
        """The verbs as they were added."""
        return list(self.commands)


@click.group(cls=InGivenOrder, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--socket", "path", default=DEFAULT_SOCKET, show_default=True, envvar="FEATUREKEYD_SOCKET", show_envvar=True,
    metavar="PATH", help="Socket of the daemon.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Write the answer as JSON, for programs.")
@click.version_option(package_name="featurekeyd", prog_name="featurekeyctl")
@click.pass_context
def tree(context: click.Context, path: str, *, as_json: bool) -> None:
    """Look after the licenses of this telephone system."""
    context.obj = Session(path, as_json=as_json)
    context.call_on_close(context.obj.close)


for _verb in (licensing.key, licensing.request, licensing.certificate, licensing.import_list, licensing.add):
    tree.add_command(_verb)
for _verb in (licensing.remove, licensing.licenses, licensing.export, operating.status, operating.features):
    tree.add_command(_verb)
for _verb in (operating.usage, operating.leases, operating.acquire, operating.release):
    tree.add_command(_verb)
for _verb in (operating.explain, operating.watch, operating.holders, operating.ports):
    tree.add_command(_verb)
tree.add_command(dialogs.sync_dialogs)
for _verb in (reserving.reserve, reserving.unreserve, reserving.reservations):
    tree.add_command(_verb)
for _verb in (rehearsing.what_if, rehearsing.catalog):
    tree.add_command(_verb)
for _verb in (proving.check, proving.rescue, proving.host, proving.clock):
    tree.add_command(_verb)
for _verb in (history.history, sizing.sizing, exporting.metrics):
    tree.add_command(_verb)
for _verb in (keeping.audit, keeping.backup, keeping.restore):
    tree.add_command(_verb)
for _verb in (doctor.doctor, bundle.support_bundle):
    tree.add_command(_verb)


def run(arguments: Sequence[str] | None = None) -> int:
    """One run with these arguments, those of the process when left out; its exit status."""
    if is_closed(sys.stdout):
        complain("standard output is closed, where the answer goes; nothing was asked")
        return FILE_TROUBLE
    with contextlib.suppress(AttributeError, ValueError):
        forgive_encoding()
    try:
        return _run(arguments)
    except click.ClickException as error:
        _show(error)
        return WRONG_USAGE
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except BrokenPipeError:
        mute(sys.stdout)
        return PIPE_CLOSED
    except (FileTrouble, OSError) as trouble:
        # What the verbs write and read is translated where it happens; an OSError is from click writing a help text.
        complain(str(no_room(trouble) if isinstance(trouble, OSError) else trouble))
        return FILE_TROUBLE


def _show(error: click.ClickException) -> None:
    """Write what is wrong with the usage to standard error where there is one."""
    if is_closed(sys.stderr):
        return
    try:
        error.show()
    except OSError:
        mute(sys.stderr)


def _complete(instruction: str) -> int:
    """Answer a shell that completes a command line, as click's own way of starting a program would."""
    from click.shell_completion import shell_complete  # noqa: PLC0415 - for shells only

    return shell_complete(tree, {}, "featurekeyctl", COMPLETION, instruction)


def _run(arguments: Sequence[str] | None) -> int:
    if COMPLETION in os.environ:
        return _complete(os.environ[COMPLETION])
    session: Session | None = None
    try:
        with tree.make_context("featurekeyctl", list(sys.argv[1:] if arguments is None else arguments)) as context:
            status = tree.invoke(context)
            return status if isinstance(status, int) else 0
    except click.exceptions.Exit as end:
        return end.exit_code
    except CallError as error:
        session = context.find_object(Session)
        complain(sentence(error, session.asked if session else ""))
        return status_of(error)


def main() -> NoReturn:
    """Run featurekeyctl and leave with its exit status."""
    sys.exit(run())
