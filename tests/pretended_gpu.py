"""A GPU for tests where there is none. Its tensors have shapes and no values; tensors of the CPU are real.

It shows an operation over two devices, and what makes the CPU wait: a value that is read, a blocking copy, a shape that
depends on values. It shows nothing of speed, and no wrong value.
"""

from __future__ import annotations

import collections
import ctypes
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import DynamicOutputShapeException, FakeTensor, FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import adamas

GPU = torch.device("cuda", 0)
SRC = str(Path(adamas.__file__).parent)
CUDA, META = 1, 14  # c10::DeviceType
GUARDS = "_ZN3c104impl26device_guard_impl_registryE"  # c10::impl::device_guard_impl_registry: a pointer each
NOT_LAUNCHED = ("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "_unsafe_view", "detach")
aten = torch.ops.aten


class Generator(torch.Generator):
    """One of the GPU, with the state of one of the CPU."""

    device = GPU


class OfAnyDevice(type(torch.Generator)):
    """Lets `isinstance` know all generators where `torch.Generator` is replaced."""

    plain = torch.Generator

    def __instancecheck__(cls, x: object) -> bool:
        return isinstance(x, OfAnyDevice.plain)


class AnyGenerator(metaclass=OfAnyDevice):
    """In the place of torch.Generator."""

    def __new__(cls, device: Any = "cpu") -> torch.Generator:
        return Generator() if torch.device(device).type == "cuda" else OfAnyDevice.plain(device)


class PretendedGpu(TorchDispatchMode):
    """Counts since the last `reset`, by what happened and where.

    Attributes:
        copies: to the GPU, that the CPU waits for.
        waits: for the GPU.
        inside: either, or any other trace of the CPU, in work that a CUDA graph would record.
        launches: operations that a GPU would be asked for, about.
    """

    def __init__(self) -> None:
        super().__init__()
        self.fake = FakeTensorMode(allow_non_fake_inputs=True)
        self.recording = False
        self.inside: list[str] = []
        self.pinned: set[int] = set()
        self.reset()

    def reset(self) -> None:
        self.copies: collections.Counter[str] = collections.Counter()
        self.waits: collections.Counter[str] = collections.Counter()
        self.launches: collections.Counter[str] = collections.Counter()

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Around work that a CUDA graph would record."""
        self.recording = True
        try:
            yield
        finally:
            self.recording = False

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if func is torch.ops.prim.device.default:
            return args[0].fake_device
        kwargs = kwargs or {}
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        fakes = [x for x in tensors if isinstance(x, FakeTensor)]
        to = kwargs.get("device")
        to = None if to is None else torch.device(to).type
        if not fakes and to != "cuda":
            return func(*args, **kwargs)
        if func is aten._local_scalar_dense.default:
            self._note(self.waits, "reads a value")
            return args[0].dtype.is_floating_point * 0.0 if args[0].dtype != torch.bool else False
        if func is aten._to_copy.default and "cpu" in (to, None if fakes else "cpu"):
            return self._transfer(args[0], kwargs, to_cpu=to == "cpu")
        if func is aten.copy_.default and len(fakes) == 1 and len(tensors) == 2:
            return self._copy(*args[:2], (kwargs.get("non_blocking") or args[2:3] == (True,)))
        return self._launch(func, args, kwargs, tensors)

    def _launch(self, func: Any, args: tuple, kwargs: dict, tensors: list[Tensor]) -> Any:
        packet, mine = func.overloadpacket, [x for x in tensors if not isinstance(x, FakeTensor)]
        if packet in (aten.index, aten.index_put, aten.index_put_, aten._unsafe_index):
            self._check_indices(packet, args[1])
        elif any(not x.ndim for x in mine) and self.recording:
            self._note(self.waits, "keeps a number of the CPU as it is now")
        if not any(r.alias_info and not r.alias_info.is_write for r in func._schema.returns):
            name = packet._qualified_op_name.removeprefix("aten::")
            self.launches[name] += name not in NOT_LAUNCHED
        if packet is aten.exponential_:  # whose fake knows no generator
            return args[0]
        with self.fake:
            try:
                return func(*args, **kwargs)
            except DynamicOutputShapeException:
                self._note(self.waits, "has a shape that depends on values")
                raise

    def _check_indices(self, packet: Any, indices: list[Tensor | None]) -> None:
        for index in (x for x in indices if x is not None):
            if not isinstance(index, FakeTensor):
                self._note(self.copies, "copies an index to the GPU")
            elif index.dtype == torch.bool and packet is not aten.index:
                self._note(self.waits, "has a shape that depends on values")

    def _transfer(self, x: Tensor, kwargs: dict, to_cpu: bool) -> Tensor:
        blocking = not kwargs.get("non_blocking")
        dtype = kwargs.get("dtype") or x.dtype
        if to_cpu:
            if blocking:
                self._note(self.waits, "copies from the GPU")
            elif self.recording:
                self.inside.append("copies from the GPU")
            return torch.zeros(x.shape, dtype=dtype)
        self._send(x, blocking)
        with self.fake:
            return torch.empty_like(x, device=GPU, dtype=dtype)

    def _copy(self, to: Tensor, source: Tensor, non_blocking: bool) -> Tensor:
        if isinstance(to, FakeTensor):
            self._send(source, not non_blocking)
        else:
            self._note(self.waits, "copies from the GPU")
        return to

    def _send(self, x: Tensor, blocking: bool) -> None:
        self.launches["copy"] += 1
        if blocking or x.untyped_storage().data_ptr() not in self.pinned:
            self._note(self.copies, "copies to the GPU")
        elif self.recording:
            self.inside.append("copies to the GPU")

    def pin(self, x: Tensor) -> Tensor:
        copy = x.clone()
        self.pinned.add(copy.untyped_storage().data_ptr())
        return copy

    def _note(self, counter: collections.Counter[str], what: str) -> None:
        ours = [f for f in traceback.extract_stack() if f.filename.startswith(SRC)]
        at = f": {ours[-1].filename.removeprefix(SRC)}:{ours[-1].lineno}" if ours else ""
        counter[what + at] += 1
        if self.recording:
            self.inside.append(what + at)


class GeneratorCheck(TorchFunctionMode):
    """Raises, as torch does, for a generator of another device."""

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        generator = kwargs.get("generator")
        if generator is not None:
            on = kwargs.get("device") or (args[0].device if args and isinstance(args[0], Tensor) else "cpu")
            if torch.device(on).type != generator.device.type:
                raise RuntimeError(f"a generator on {generator.device} cannot draw on {on}")
        return func(*args, **kwargs)


def gradients(loss: Tensor, parameters: Sequence[Tensor], materialize_grads: bool) -> tuple[Tensor, ...]:
    """In the place of torch.autograd.grad, which asks for a real GPU: none of our code runs there."""
    return tuple(map(torch.empty_like, parameters))


class Stream:
    """The one of the GPU."""

    def __init__(self, gpu: PretendedGpu) -> None:
        self.gpu = gpu

    def synchronize(self) -> None:
        self.gpu._note(self.gpu.waits, "waits for the stream")


def _guard() -> None:
    """Gives torch, built for CPUs, the guard of devices that the meta device has, in the place of CUDA's."""
    if torch.cuda.is_available():
        pytest.skip("there is a real GPU")
    try:
        library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libc10.so"))
        guards = (ctypes.c_void_p * (META + 1)).in_dll(library, GUARDS)
    except (OSError, ValueError):
        pytest.skip("this build of torch hides its device guards")
    guards[CUDA] = guards[CUDA] or guards[META]


@contextmanager
def pretended_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[PretendedGpu]:
    """Inside, tensors can be on GPU. Skips the test where that cannot be."""
    _guard()
    plain_tensor, mode = torch.tensor, PretendedGpu()

    def tensor(data: Any, *, device: Any = None, **options: Any) -> Tensor:
        made = plain_tensor(data, **options)
        return made if device is None else made.to(device)

    monkeypatch.setattr(torch.cuda, "_lazy_init", lambda: None)
    monkeypatch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device=None: Stream(mode))
    monkeypatch.setattr(torch.backends.cudnn, "is_acceptable", lambda tensor: False)  # the LSTM reads its addresses
    monkeypatch.setattr(torch.autograd, "grad", gradients)
    monkeypatch.setattr(torch, "tensor", tensor)
    monkeypatch.setattr(torch, "Generator", AnyGenerator)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: mode.pin(self))
    with GeneratorCheck(), mode:
        yield mode
