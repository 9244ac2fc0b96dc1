"""The files of onnxruntime-web that a page takes along."""

from __future__ import annotations

import gzip
import hashlib
import shutil
from pathlib import Path

from adamas.utils.errors import UserError

RUNTIME = Path(__file__).parent / "onnxruntime"
VERSION = "1.22.0"
SCRIPT, BINARY = "ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm.gz"
SHA256 = {  # of the file in the npm package, unpacked
    SCRIPT: "e53392ea5f0e654acf1866c16564b340661ed5d238f692c3c2bd40b940f924a2",
    BINARY: "71aef04959c5c1b6de461b6538e2058e306610034a85aad2742d0c7fd4533fe4",
}


def copy_runtime(out: Path, source: Path = RUNTIME) -> None:
    """Copies both files and their licence to `out`. UserError where one is not that of the package."""
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
