"""Finds the line of a policies folder that a rule of the tables is written in; for messages."""

from pathlib import Path

import yaml

from gateway.masking.specs import BadRule

_FOLDERS = {"mask": "masks/*", "signal": "signals"}
"""By kind of rule: the folders, below gateway/, of files that hold such rules by name."""


def find_place(policies: Path, bad: BadRule) -> str:
    """Return `FILE:LINE` of what is wrong, or the folder if it is written nowhere."""
    kind, _, name = bad.rule.partition(" ")
    places = [
        f"{path}:{line}"
        for path in sorted((policies / "gateway").glob(f"{_FOLDERS.get(kind, kind)}/data.*"))
        if (line := _find_line(path, name, bad.field))
    ]
    return " and ".join(places) or str(policies)


def _find_line(path: Path, name: str, field: str) -> int:
    """Return the line, from 1 on, of a rule's field, else of its name; 0 if it is not there."""
    try:
        root = yaml.compose(path.read_text(), Loader=yaml.SafeLoader)
    except (OSError, ValueError, yaml.YAMLError):
        return 0
    rule, line = _value(root, name)
    _, field_line = _value(rule, field)
    return field_line or line


def _value(node: yaml.Node | None, key: str) -> tuple[yaml.Node | None, int]:
    """Return the value of a key with the key's line, from 1 on."""
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            if name.value == key:
                return value, name.start_mark.line + 1
    return None, 0
