"""The door for YAML, which people write by hand: no tag runs code, and no number is longer than anybody writes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_LONGEST_NUMBER = 100  # characters
_DEEPEST = 50


def parse_yaml(text: str, mapping: Callable[[Any, Any], Any] | None = None) -> Any:
    """What it says.

    YAML 1.1 takes 1:30:00 for a number of base 60, whose time grows with the square of its length, and hexadecimal ones, which
    Python reads at any length but refuses to print: both are errors here from 100 characters on.

    Args: mapping: makes a table of a loader and a node, instead of what YAML says of a key that stands twice.

    Raises: yaml.YAMLError; RecursionError if it is nested too deep; ValueError for a number or date that is none.
    """
    import yaml

    class Loader(yaml.SafeLoader):  # type: ignore[misc]
        """Of its own: constructors that somebody registered with the library have no say."""

        def compose_node(self, parent: Any, index: Any) -> Any:
            # How deep Python recurses is not for a file to say, and the scanner's time grows with the square of the depth.
            self.depth = getattr(self, "depth", 0) + 1
            if self.depth > _DEEPEST:
                raise RecursionError
            node = super().compose_node(parent, index)
            self.depth -= 1
            return node

    def bounded(construct: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        def number(loader: Any, node: Any) -> Any:
            if len(str(node.value)) > _LONGEST_NUMBER:
                problem = f"a number of {len(node.value):,} characters"
                raise yaml.constructor.ConstructorError(problem=problem, problem_mark=node.start_mark)
            return construct(loader, node)

        return number

    Loader.add_constructor("tag:yaml.org,2002:int", bounded(yaml.SafeLoader.construct_yaml_int))
    Loader.add_constructor("tag:yaml.org,2002:float", bounded(yaml.SafeLoader.construct_yaml_float))
    if mapping is not None:
        Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping)
    return yaml.load(text, Loader)  # noqa: S506 - a subclass of SafeLoader
