"""The files of onnxruntime-web that a page takes along."""

from __future__ import annotations

import gzip
import hashlib
import shutil
from pathlib import Path

from adamas.utils.errors import UserError

RUNTIME = Path(__file__).parent / "onnxruntime"
VERSION = "1.22.0"
SHA256 = {  # of the file in the npm package, unpacked
    "ort.wasm.min.mjs": "6ef726f355b791129f7ddf3f62e7877a16b9b777abe87004b8ab306e6b9cf265",
    "ort-wasm-simd-threaded.mjs": "30dd851d9c00622940500f71ddd2ff8820c5cb65270816080175b958705385a8",
    "ort-wasm-simd-threaded.wasm.gz": "71aef04959c5c1b6de461b6538e2058e306610034a85aad2742d0c7fd4533fe4",
}


def copy_runtime(out: Path, source: Path = RUNTIME) -> None:
    """Copies these files and their licence to `out`. UserError where one is not that of the package."""
    for name, digest in SHA256.items():
        content = (source / name).read_bytes()
        try:
            plain = gzip.decompress(content) if name.endswith(".gz") else content
        except (OSError, EOFError) as error:
            raise UserError(f"{source / name} is damaged: install adamas again") from error
        if hashlib.sha256(plain).hexdigest() != digest:
            raise UserError(f"{source / name} is not that of onnxruntime-web {VERSION}: install adamas again")
    out.mkdir(parents=True)
    for name in (*SHA256, "LICENSE"):
        shutil.copy(source / name, out)
