"""Put the outputs of an executed run into the notebooks that are read on the web.

    python scripts/render.py laptop            # build/laptop/notebooks -> notebooks

Outputs are scrubbed of paths, papermill's metadata and progress bars that no reader can see. A
hash of the code cells is kept, so that a test can tell when outputs are older than the code.
"""

import base64
import hashlib
import re
import sys
from io import BytesIO
from pathlib import Path

import nbformat
from PIL import Image

from helpers.run.files import ROOT, atomic

LARGEST = 3_000_000  # bytes
PHOTOGRAPHIC = 500_000  # characters; a PNG beyond that is a gallery of photographs
WIDGET = "application/vnd.jupyter.widget-view+json"


def code_hash(notebook: nbformat.NotebookNode) -> str:
    """Return a hash of all code cells, in order."""
    code = "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    return hashlib.sha256(code.encode()).hexdigest()[:16]


def scrub(text: str) -> str:
    """Remove what tells of the machine: paths of the checkout, the home and the kernel."""
    # A warning's place in the kernel, and the line of code that it repeats.
    text = re.sub(r"/tmp/ipykernel_\d+/\d+\.py:\d+: (.*)\n(  .*\n)?", r"\1\n", text)
    for folder, name in ((ROOT, "."), (Path.home(), "~")):
        text = text.replace(str(folder), name)
    return text


def as_jpeg(png: str) -> str:
    """Return a PNG as a JPEG of a fraction of its size, both in base64."""
    jpeg = BytesIO()
    Image.open(BytesIO(base64.b64decode(png))).convert("RGB").save(jpeg, "JPEG", quality=80)
    return base64.b64encode(jpeg.getvalue()).decode()


def clean_outputs(outputs: list) -> list:
    """Return the outputs that a reader of the static page should see."""
    kept = []
    for output in outputs:
        if output.output_type == "stream":
            if output.name == "stderr" and "Warning: " not in output.text:
                continue  # progress bars
            output.text = scrub(output.text)
        else:
            data = output.get("data", {})
            if data.pop(WIDGET, None) and not data.keys() & {"image/png", "text/html"}:
                continue  # a progress bar; an explorer has its first picture or table beside it
            if len(data.get("image/png", "")) > PHOTOGRAPHIC:
                data["image/jpeg"] = as_jpeg(data.pop("image/png"))
            for kind, content in data.items():
                if isinstance(content, str) and kind.startswith("text/"):
                    data[kind] = scrub(content)
        output.get("metadata", {}).clear()
        kept.append(output)
    return kept


def render(executed: Path, target: Path, profile: str) -> None:
    """Copy the outputs of ``executed`` into ``target``, cell by cell.

    Raises:
        SystemExit: the two have different code, a cell failed, or the file is too large.
    """
    run, page = nbformat.read(executed, 4), nbformat.read(target, 4)
    if code_hash(run) != code_hash(page):
        sys.exit(f"{target.name} has changed since it was run: make run PROFILE={profile} again")
    outputs = {cell.id: cell.get("outputs", []) for cell in run.cells}
    code = [cell for cell in page.cells if cell.cell_type == "code"]
    for count, cell in enumerate(code, start=1):
        cell.outputs = clean_outputs(outputs[cell.id])
        cell.execution_count = count
        for output in cell.outputs:
            if "execution_count" in output:
                output.execution_count = count
            if output.output_type == "error":
                sys.exit(f"{target.name} has an error in cell {count}: mend it and run it again")
    page.metadata["look_inside"] = {"profile": profile, "code_hash": code_hash(page)}
    text = nbformat.writes(page) + "\n"
    if len(text) > LARGEST:
        sys.exit(f"{target.name} would have {len(text) / 1e6:.1f} MB: draw fewer or smaller images")
    with atomic(target) as partial:
        partial.write_text(text)
    print(f"{target.name}: {len(text) / 1e6:.2f} MB")


if __name__ == "__main__":
    (name,) = sys.argv[1:] or ["laptop"]
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        render(ROOT / "build" / name / "notebooks" / path.name, path, name)
