"""A disk on which only what was synced is sure: which states may a power cut leave behind, after each call?

The model is harsher than any file system in use. A file's bytes are sure after fsync of the file, its name after fsync of its
folder. Everything since then may be there or not, in any combination and independent of order: creations, links, renames,
removals and writes; a write may also be there in part, or as zeros of the right length. A rename inside one folder happens whole
or not at all.
"""

import os
from dataclasses import dataclass, field

from .recording import Operation


@dataclass(eq=False)
class Node:
    """A file or folder, and what was done to it that a power cut may undo.

    Attributes:
        data: sure bytes of a file.
        names: sure names of a folder.
        pending: numbers and contents of changes since the last sync.
    """

    is_folder: bool
    data: bytes = b""
    names: dict[str, "Node"] = field(default_factory=dict)
    pending: list[tuple[int, object]] = field(default_factory=list)


@dataclass(frozen=True)
class Write:
    offset: int
    data: bytes


@dataclass(frozen=True)
class Resize:
    size: int


@dataclass(frozen=True)
class Rename:
    """New owners of names in one folder; None for a name that goes away."""

    names: tuple[tuple[str, Node | None], ...]


class Torn:
    """How much of a pending change is on the disk."""

    LOST, WHOLE, HALF, ZEROS = range(4)


State = dict[str, bytes | None]  # bytes of a file by path; None for a folder


class Disk:
    """What is on the disk and what is only on its way there, after any number of operations below `root`."""

    def __init__(self, root: str, before: State | None = None) -> None:
        self.root = root.rstrip("/")
        self.base = Node(is_folder=True)
        self._visible: dict[str, Node] = {self.root: self.base}
        self._handles: dict[int, Node] = {}
        self._number = 0
        for path, data in sorted((before or {}).items()):
            node = Node(is_folder=data is None, data=data or b"")
            self._visible[f"{self.root}/{path}"] = node
            self._parent(f"{self.root}/{path}").names[path.rsplit("/", 1)[-1]] = node

    def pending(self) -> list[tuple[Node, int, object]]:
        """What is not sure yet, oldest first. What hangs below a lost folder is lost with it."""
        nodes: dict[int, Node] = {id(node): node for node in [*self._visible.values(), *self._handles.values()]}
        pending = [(node, number, change) for node in nodes.values() for number, change in node.pending]
        return sorted(pending, key=lambda entry: entry[1])

    def apply(self, operation: Operation) -> None:
        getattr(self, f"_{operation.call}")(operation)

    def state(self, kept: dict[int, int]) -> State:
        """What stands there after a power cut that kept of each pending change what `kept` says by its number; else nothing."""
        state: State = {}

        def walk(folder: Node, prefix: str) -> None:
            names = dict(folder.names)
            for number, change in folder.pending:
                if kept.get(number, Torn.LOST) != Torn.LOST:
                    assert isinstance(change, Rename)
                    for name, node in change.names:
                        if node is None:
                            names.pop(name, None)
                        else:
                            names[name] = node
            for name, node in names.items():
                state[prefix + name] = None if node.is_folder else _content(node, kept)
                if node.is_folder:
                    walk(node, f"{prefix}{name}/")

        walk(self.base, "")
        return state

    def _parent(self, path: str) -> Node:
        return self._visible[path.rsplit("/", 1)[0]]

    def _change(self, node: Node, change: object) -> None:
        self._number += 1
        node.pending.append((self._number, change))

    def _names(self, *changes: tuple[str, Node | None]) -> None:
        """Changes of names, atomic within each folder."""
        for folder in dict.fromkeys(path.rsplit("/", 1)[0] for path, _ in changes):
            mine = tuple((path.rsplit("/", 1)[1], node) for path, node in changes if path.rsplit("/", 1)[0] == folder)
            self._change(self._visible[folder], Rename(mine))
        for path, node in changes:
            if node is None:
                self._visible.pop(path, None)
            else:
                self._visible[path] = node

    def _open(self, operation: Operation) -> None:
        node = self._visible.get(operation.path)
        if node is None:
            node = Node(is_folder=False)
            self._names((operation.path, node))
        elif operation.flags & os.O_TRUNC:
            self._change(node, Resize(0))
        self._handles[operation.handle] = node

    def _mkdir(self, operation: Operation) -> None:
        self._names((operation.path, Node(is_folder=True)))

    def _write(self, operation: Operation) -> None:
        self._change(self._handles[operation.handle], Write(operation.offset, operation.data))

    def _truncate(self, operation: Operation) -> None:
        self._change(self._handles[operation.handle], Resize(operation.offset))

    def _sync(self, operation: Operation) -> None:
        node = self._handles[operation.handle]
        everything = {number: Torn.WHOLE for number, _ in node.pending}
        if node.is_folder:
            for _, change in node.pending:
                assert isinstance(change, Rename)
                for name, owner in change.names:
                    node.names.pop(name, None)
                    if owner is not None:
                        node.names[name] = owner
        else:
            node.data = _content(node, everything)
        node.pending.clear()

    def _link(self, operation: Operation) -> None:
        self._names((operation.other, self._visible[operation.path]))

    def _rename(self, operation: Operation) -> None:
        self._names((operation.other, self._visible[operation.path]), (operation.path, None))

    def _unlink(self, operation: Operation) -> None:
        self._names((operation.path, None))

    def _promise(self, operation: Operation) -> None:
        pass


def _content(node: Node, kept: dict[int, int]) -> bytes:
    data = bytearray(node.data)
    for number, change in node.pending:
        how = kept.get(number, Torn.LOST)
        if how == Torn.LOST:
            continue
        if isinstance(change, Resize):
            data = data[: change.size].ljust(change.size, b"\0")
        elif isinstance(change, Write):
            part = change.data if how == Torn.WHOLE else change.data[: len(change.data) // 2]
            if how == Torn.ZEROS:
                part = bytes(len(change.data))
            data = data.ljust(change.offset, b"\0")
            data[change.offset : change.offset + len(part)] = part
    return bytes(data)
