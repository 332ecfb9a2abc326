"""Ends a process of a deployment at a named point, when a test asks for it.

Found by the interpreter at start where this folder is on PYTHONPATH; the product knows nothing of
it. The file that COUNTERSIGN_TEST_FAULT names holds the name of a point; the first process that
comes by it removes the file and is gone, as by `kill -9`.
"""

import importlib.abc
import importlib.util
import os
import signal
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

ORDER = os.environ.get("COUNTERSIGN_TEST_FAULT", "")


def come_by(point: str) -> None:
    """End this process if a test asked for it here."""
    try:
        with open(ORDER) as order:  # noqa: PTH123 - no import but what is there anyway
            if order.read() != point:
                return
        os.unlink(ORDER)  # noqa: PTH108
    except FileNotFoundError:
        return
    os.kill(os.getpid(), signal.SIGKILL)


def is_worker(journal: Any, *_: Any) -> bool:
    """Whether this is the journal of a proxy worker."""
    return str(journal.journal_id).startswith("proxy")


def after(owner: Any, name: str, point: str, where: Callable[..., bool] = lambda *_: True) -> None:
    """Come by a point after each call of a function or method."""
    real: Callable[..., Any] = getattr(owner, name)

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        result = real(*args, **kwargs)
        if where(*args):
            come_by(point)
        return result

    setattr(owner, name, wrapped)


def break_journal(module: ModuleType) -> None:
    """Points of the writers of journals."""
    begin: Callable[..., None] = module.Journal.__init__

    def begin_and_break(journal: Any, *args: Any, **kwargs: Any) -> None:
        begin(journal, *args, **kwargs)
        if is_worker(journal):
            after(journal._syncs, "_note", "after fdatasync")

    module.Journal.__init__ = begin_and_break
    after(module.Journal, "_write", "after frame", is_worker)


def break_recorder(module: ModuleType) -> None:
    """Points between tables."""
    after(module.Recorder, "_commit_table", "between tables")


def break_manifests(module: ModuleType) -> None:
    """Points within a commit: data is written, then manifests, then the catalog is swapped."""
    after(module.ManifestWriter, "__enter__", "after data file")
    after(module.ManifestListWriter, "__exit__", "after manifest")


def break_catalog(module: ModuleType) -> None:
    """The point at which a commit has happened and nobody knows it yet."""
    after(module.SqlCatalog, "commit_table", "after catalog swap")


def hurry(module: ModuleType) -> None:
    """Not a point: a child that is killed again and again is started again at once."""
    module.LONGEST_WAIT_S = 0.2  # type: ignore[attr-defined]  # a module as it is loaded


POINTS = {
    "gateway.children": hurry,
    "gateway.journal": break_journal,
    "lake.recorder": break_recorder,
    "pyiceberg.manifest": break_manifests,
    "pyiceberg.catalog.sql": break_catalog,
}


class _Finder(importlib.abc.MetaPathFinder):
    """Wraps functions of modules as soon as they are loaded."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        if name not in POINTS:
            return None
        sys.meta_path.remove(self)
        try:
            spec = importlib.util.find_spec(name)
        finally:
            sys.meta_path.insert(0, self)
        if spec is None or spec.loader is None:
            return spec
        load = spec.loader.exec_module

        def load_and_break(module: ModuleType) -> None:
            load(module)
            POINTS[name](module)

        spec.loader.exec_module = load_and_break  # type: ignore[method-assign]
        return spec


if ORDER:
    sys.meta_path.insert(0, _Finder())
