"""A value that satisfies a simple JSON schema, for requests that want structured output. Pure."""

from collections.abc import Mapping
from typing import Any

_DEPTH_LIMIT = 8
_ITEMS_LIMIT = 16
_SCALARS: Mapping[object, object] = {
    "string": "Demo session",
    "integer": 1,
    "number": 1.0,
    "boolean": True,
    "null": None,
}


def sample(schema: Any, root: Any = None, depth: int = 0) -> Any:
    """Return a value of the schema's shape: every property, the first choice, the shortest list.

    Patterns, formats and ranges are not looked at; what nests too deeply or is no schema is null.
    """
    root = schema if root is None else root
    if depth > _DEPTH_LIMIT or not isinstance(schema, dict):
        return None
    match schema:
        case {"const": value}:
            return value
        case {"enum": [first, *_]}:
            return first
        case {"anyOf": [first, *_]} | {"oneOf": [first, *_]}:
            return sample(first, root, depth + 1)
        case {"$ref": str() as reference}:
            return sample(_resolve(reference, root), root, depth + 1)
        case _:
            return _sample_type(schema, root, depth)


def _resolve(reference: str, root: Any) -> Any:
    node = root
    for part in filter(None, reference.removeprefix("#").split("/")):
        node = node.get(part) if isinstance(node, dict) else None
    return node


def _sample_type(schema: dict[str, Any], root: Any, depth: int) -> Any:
    kind = schema.get("type", "object")
    kind = kind[0] if isinstance(kind, list) and kind else kind
    match kind:
        case "object":
            properties = schema.get("properties")
            named = properties.items() if isinstance(properties, dict) else ()
            return {name: sample(sub, root, depth + 1) for name, sub in named}
        case "array":
            least = schema.get("minItems", 0)
            count = min(least, _ITEMS_LIMIT) if isinstance(least, int) else 0
            return [sample(schema.get("items"), root, depth + 1)] * count
        case _:
            return _SCALARS.get(kind) if isinstance(kind, str) else None
