"""A parser process whose documents are programs: what a parser could do that somebody has taken over.

    python -m tests.hostile_parser [--without-namespaces] CONTROL_FD ...

A document is Python, with ``document`` in it; what it prints is its text.
"""

import contextlib
import io
import sys

from streams import parser_process, sandbox
from streams.extractors import registry
from streams.extractors.result import Document


def run(document: Document) -> None:
    printed = io.StringIO()
    with document.opened(), contextlib.redirect_stdout(printed):
        try:
            exec(compile(document.payload, "hostile", "exec"), {"document": document})
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever the program raises is its result
            printed.write(f"{type(error).__name__}: {error}")
        document.text(printed.getvalue())


if __name__ == "__main__":
    arguments = sys.argv[1:]
    if arguments[0] == "--without-namespaces":
        sandbox._unshare = lambda: False
        arguments = arguments[1:]
    registry.extract = run
    parser_process.main(arguments)
