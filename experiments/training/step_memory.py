"""What a step takes of memory, counted on a few rows, and how many rows at once fit into a budget.

Counted rather than looked up at the process: the same on every machine, so that a training that begins again begins alike.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headstart.features.accelerators import device_kind
from headstart.features.extraction.vram_budget import gpu_budget, room_within
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.memory import current_rss_bytes
from headstart.pipeline.text import rough_size_words

if TYPE_CHECKING:
    from torch import Tensor, nn

FEW = 4  # rows that are tried
_MARGIN = 1.4  # allocators round up, and a convolution takes room beside its result


@dataclass(frozen=True)
class StepMemory:
    """Attributes:
    fixed_bytes: gradients, and what the optimizer will keep of each weight; not the weights, which are there already.
    row_bytes: that each row at once adds: what waits for the backward pass, and what a module holds while it works.
    """

    fixed_bytes: int
    row_bytes: int

    def of(self, rows: int) -> int:
        """Bytes of a step in pieces of so many rows, at most."""
        return round(self.fixed_bytes + _MARGIN * self.row_bytes * rows)

    def rows_within(self, room: int, wanted: int, budget: str) -> int:
        """The largest number of rows, halved from `wanted` as often as it takes, whose step fits into `room` bytes.

        Args: budget: the option and what it says, for the message.
        Raises: HeadstartError if one row is too much.
        """
        rows = wanted
        while self.of(rows) > room and rows > 1:
            rows = -(-rows // 2)
        if self.of(rows) > room:
            raise HeadstartError(
                f"{budget}: a step of one row takes {rough_size_words(self.of(1), 'MB')} more than what the process holds, and "
                f"{rough_size_words(max(0, room), 'MB')} are left. Raise the budget, or take a smaller model or input"
            )
        return rows


def step_memory(model: nn.Module, optimizer: Any, loss_of: Callable[[int], Tensor], rows: int) -> StepMemory:
    """Counts what `loss_of` keeps for the gradients of so many rows.

    Args: loss_of: the loss of the first so many rows; its gradients are not computed; rows: how many there are, at least one.
    """
    import torch

    few = min(FEW, rows)
    half = max(1, few // 2)  # one row alone is too few for batch statistics
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}

    def kept(count: int) -> tuple[int, int]:
        storages, largest = dict[int, int](), 0
        contexts: list[Any] = []
        recomputed = [dict[int, int]()]  # of the blocks that are computed again, each by itself: one at a time is there in whole

        def packing(into: dict[int, int]) -> Any:
            def pack(tensor: Tensor) -> Tensor:
                storage = tensor.untyped_storage()
                if storage.data_ptr() not in weights:
                    into[storage.data_ptr()] = storage.nbytes()
                return tensor

            return torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)

        def enter(module: nn.Module, given: Any) -> None:
            storages.update({part.untyped_storage().data_ptr(): part.untyped_storage().nbytes() for part in given})
            recomputed.append({})
            contexts.append(packing(recomputed[-1]))
            contexts[-1].__enter__()

        def leave(module: nn.Module, given: Any, result: Any) -> None:
            contexts.pop().__exit__(None, None, None)

        def look(module: nn.Module, given: Any, result: Any) -> None:
            nonlocal largest
            if isinstance(result, torch.Tensor):
                largest = max(largest, result.untyped_storage().nbytes())

        hooks = [module.register_forward_hook(look) for module in model.modules()]
        for module in model.modules():
            if getattr(module, "is_recomputed", False):
                hooks += [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]
        try:
            with packing(storages):
                loss = loss_of(count)
            assert loss is not None  # what waits for its backward pass lives as long as it does
            return sum(storages.values()) + max(sum(block.values()) for block in recomputed), largest
        finally:
            for context in reversed(contexts):  # of a block that raised
                context.__exit__(None, None, None)
            for hook in hooks:
                hook.remove()

    (less, _), (more, largest) = kept(half), kept(few)
    a_row = (more - less) // (few - half) if few > half else more
    trained = [p for group in optimizer.param_groups for p in group["params"]]
    moments = 0 if optimizer.state else {"SGD": 1}.get(type(optimizer).__name__, 2)
    fixed = sum(p.numel() * p.element_size() for p in trained) * (1 + moments)
    return StepMemory(fixed, a_row + 2 * largest // few)


def room_for_a_step(device: str, budget: int, model: str) -> int:
    """Bytes that a step may take beside what the process holds now. On a GPU the allocator is capped from here on.

    Raises: HeadstartError if there is none on a GPU.
    """
    memory = device_kind(device).memory(device)
    if memory is None:
        return budget - current_rss_bytes()
    memory.forget()
    room = room_within(memory, budget, model)
    memory.cap(room)
    return room - memory.reserved_bytes()


def budget_of(device: str, ram_bytes: int | None, vram_bytes: int | None) -> tuple[int | None, str]:
    """Bytes that the process may take, None for any number, and how the option that says so is called."""
    if device != "cpu":
        budget = gpu_budget(device_kind(device).shares_memory(device), ram_bytes, vram_bytes)
        return budget, f"--vram-budget {rough_size_words(budget, 'MB')}"
    return ram_bytes, "" if ram_bytes is None else f"--ram-budget {rough_size_words(ram_bytes, 'MB')}"


def vram_facts(device: str) -> dict[str, int | None]:
    """What the GPU's memory came to, as markers record it; nothing on a CPU, whose peak the engine records."""
    memory = device_kind(device).memory(device)
    if memory is None:
        return {}
    return {"peak_vram_reserved_bytes": memory.peak_reserved_bytes(), "vram_process_bytes": memory.process_bytes()}
