"""A GPU that is not there: tensors say that they are on it, lie in the CPU's memory, and what it lacks is refused."""

import contextlib
from types import SimpleNamespace

import torch
import torch._dynamo  # which optimizers import, and which reads at import some of what is replaced here
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree

_DEVICE = torch.Tensor.device.__get__
_ACROSS = (  # these may meet tensors of two devices, and make none there
    torch.Tensor.copy_,
    torch.Tensor.__setitem__,
    torch.Tensor.data.__set__,
    torch.Tensor.grad.__set__,
    torch._has_compatible_shallow_copy_type,
)
_PACKING = (torch._VF._pack_padded_sequence, torch._VF._pad_packed_sequence)  # whose lengths, the second result, are the CPU's


class FakeGpu(TorchFunctionMode):
    """Within it torch has one device of that kind, which computes what the CPU computes, to the bit.

    Refused are float64 (unless it `has_float64`), an operation on tensors of two devices, numpy of a tensor that is there, and
    on mps what was wrong there: a copy that nobody waits for, a convolution of some channels of many that lie side by side.

    Attributes:
        seeds: that its generator was given. cap: the part of its memory that was last allowed. emptied: how often its cache was.
    """

    def __init__(self, kind, has_float64=False):
        super().__init__()
        self.kind, self.has_float64 = kind, has_float64
        self.seeds, self.cap, self.emptied = [], None, 0
        self._held = {}  # storages by address, kept so that no other one gets theirs

    def has(self, tensor):
        return tensor.numel() > 0 and tensor.untyped_storage().data_ptr() in self._held

    def held_bytes(self):
        return sum(storage.nbytes() for storage in self._held.values())

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        given = [one for one in _pytree.tree_leaves((args, kwargs)) if isinstance(one, torch.Tensor)]
        mine = [one for one in given if self.has(one)]
        if func in (torch.device, torch._C._nn._parse_to):  # a name alone; and of a module's `to`, which asks each tensor then
            return func(*args, **kwargs)
        if func == _DEVICE:
            return torch.device(self.kind, 0) if mine else func(*args)
        if func == torch.Tensor.numpy and mine:
            raise TypeError(f"can't convert {self.kind}:0 device type tensor to numpy. Use Tensor.cpu() first")
        if func == torch.Tensor.cpu or (func == torch.Tensor.to and self._names_cpu(args, kwargs)):
            moved = func(*args, **kwargs)
            return moved.clone() if mine else moved
        is_asked = self._is_named(args[1:], kwargs)
        args, kwargs = (_pytree.tree_map(self._on_cpu, each) for each in (args, kwargs))
        if func == torch.Tensor.to and is_asked and not mine:
            return self._moved(func, args, kwargs)
        apart = [one for one in given if not self.has(one) and one.dim() and one.numel()]
        across = func in (*_ACROSS, *_PACKING, torch._VF.lstm) or (func == torch.Tensor.__getitem__ and self.has(args[0]))
        if mine and apart and not across:
            raise RuntimeError(f"Expected all tensors to be on the same device, but found {self.kind}:0 and cpu! ({func})")
        if mine and func == torch.conv2d and self.kind == "mps":
            is_whole = args[0].is_contiguous() or args[0].is_contiguous(memory_format=torch.channels_last)
            assert is_whole, "a convolution of channels between which others lie is wrong on mps"
        results = func(*args, **kwargs)
        if func in _PACKING:
            self._take(results[0])
        elif is_asked or (mine and func not in _ACROSS):
            _pytree.tree_map_only(torch.Tensor, self._take, results)
        return results

    def _moved(self, func, args, kwargs):
        is_waited_for = not kwargs.get("non_blocking", False) and True not in args[2:]
        assert is_waited_for or self.kind != "mps", "a copy to mps that nobody waits for reads memory that may be gone"
        return self._take(func(*args, **kwargs).clone())

    def _take(self, tensor):
        if tensor.dtype == torch.float64 and not self.has_float64:
            raise TypeError(f"Cannot convert a {self.kind} tensor to float64, which that has not. Please use float32 instead.")
        if tensor.numel():
            storage = tensor.untyped_storage()
            self._held[storage.data_ptr()] = storage
        return tensor

    def _names_me(self, value):
        return isinstance(value, str | torch.device) and str(value).partition(":")[0] == self.kind

    def _is_named(self, args, kwargs):
        return self._names_me(kwargs.get("device")) or any(map(self._names_me, args))

    @staticmethod
    def _names_cpu(args, kwargs):
        return str(kwargs.get("device")) == "cpu" or any(
            isinstance(one, str | torch.device) and str(one) == "cpu" for one in args[1:]
        )

    def _on_cpu(self, value):
        return "cpu" if self._names_me(value) else value


@contextlib.contextmanager
def fake_gpu(monkeypatch, kind, has_float64=False, total=8 * 10**9, has_bfloat16=True):
    """A `FakeGpu` that is the only GPU here: what torch is asked of such a device, it answers."""
    gpu = FakeGpu(kind, has_float64)
    functions = getattr(torch, kind)

    def cap(fraction, device=None):
        gpu.cap = fraction

    def empty_cache():
        gpu.emptied += 1

    shared = {"manual_seed": gpu.seeds.append, "empty_cache": empty_cache, "set_per_process_memory_fraction": cap}
    if kind == "mps":
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
        monkeypatch.setattr(torch.backends.mps, "is_macos_or_newer", lambda major, minor: has_bfloat16)
        shared |= {
            "recommended_max_memory": lambda: total,
            "driver_allocated_memory": gpu.held_bytes,
            "synchronize": lambda: None,
        }
    else:
        properties = SimpleNamespace(total_memory=total, has_fp64=has_float64, has_bfloat16_conversions=has_bfloat16)
        shared |= {
            "is_available": lambda: True,
            "device_count": lambda: 1,
            "current_device": lambda: 0,
            "get_device_properties": lambda device: properties,
            "memory_reserved": lambda device: gpu.held_bytes(),
            "max_memory_reserved": lambda device: gpu.held_bytes(),
            "mem_get_info": lambda device: (total - gpu.held_bytes(), total),
            "reset_peak_memory_stats": lambda device: None,
            "synchronize": lambda device: None,
        }
    for name, function in shared.items():
        monkeypatch.setattr(functions, name, function)
    for name in ("Generator", "autocast"):
        monkeypatch.setattr(torch, name, _of_the_cpu(getattr(torch, name), kind))
    with gpu:
        yield gpu


def _of_the_cpu(made, kind):
    """Stands for a class of torch; one of the CPU's is made where one of the GPU's is asked for."""

    def new(cls, device="cpu", *rest, **more):
        return made("cpu" if str(device).startswith(kind) else device, *rest, **more)

    return type(made.__name__, (), {"__new__": new})
