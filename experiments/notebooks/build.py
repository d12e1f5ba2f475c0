"""Run the notebook scripts, and write the notebooks with their outputs.

Each notebook is a pair of files: ``NAME.py``, which is the one to edit and produces readable diffs
(``# %%`` starts a cell, as in jupytext and editors), and ``NAME.ipynb``, which this script creates
from it, with outputs.

Command: ``pip install -e ".[notebooks]" && python experiments/notebooks/build.py``
With ``--check``, nothing is written: each notebook is run from top to bottom, offline and in a new
process, and the ``.ipynb`` file must contain the same cells. Any output on standard error,
including warnings, is a failure.
"""

import argparse
import concurrent.futures
import functools
import os
import time
from pathlib import Path

import jupytext
import nbclient
import nbformat

HERE = Path(__file__).parent
NAMES = (
    "Convolutional_Neural_Networks_Basic_Design",
    "Convolutional_Neural_Networks",
    "ImageDataGenerator",
    "DataAugmented_CNN",
    "CNN_Exercise",
    "CNN_Exercise_Solution",
)
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def read_script(name: str) -> nbformat.NotebookNode:
    """Return a script's notebook, without outputs; the same script gives the same notebook."""
    notebook = jupytext.read(HERE / f"{name}.py", fmt="py:percent")
    notebook.metadata = nbformat.from_dict({"kernelspec": KERNEL})
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
        cell.metadata = nbformat.from_dict({})
    return notebook


def execute(notebook: nbformat.NotebookNode) -> float:
    """Run all cells in a new process, and return the time taken in seconds.

    Raises:
      SystemExit: if a cell fails or writes to standard error.
    """
    began = time.perf_counter()
    client = nbclient.NotebookClient(
        notebook,
        timeout=900,  # seconds per cell, enough for a busy machine
        kernel_name="python3",
        coalesce_streams=True,  # so that identical runs produce identical files
        extra_arguments=["--log-level=ERROR"],  # hides the notice about TCP on localhost
        resources={"metadata": {"path": str(HERE)}},
    )
    try:
        client.execute(env=os.environ | {"PYTHONWARNINGS": "always::UserWarning"})
    except nbclient.exceptions.CellExecutionError as error:
        raise SystemExit(str(error)) from None
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict({})  # remove timestamps
        for output in cell.get("outputs", ()):
            if output.output_type == "stream" and output.name == "stderr":
                raise SystemExit(f"a cell wrote to standard error:\n{cell.source}\n{output.text}")
    return time.perf_counter() - began


def build(name: str, *, check: bool) -> str:
    """Run a notebook and write it or, with ``check``, compare its cells with those of its file.

    Raises:
      SystemExit: if the file has other cells, a cell fails, or a cell writes to standard error.
    """
    notebook, path = read_script(name), HERE / f"{name}.ipynb"
    sources = [cell.source for cell in notebook.cells]
    if check:
        written = nbformat.read(path, as_version=4)
        if [cell.source for cell in written.cells] != sources:
            raise SystemExit(f"{path.name} does not match its script: run build.py {name}")
    seconds = execute(notebook)
    if not check:
        nbformat.write(notebook, path)
    return f"{name}: {len(sources)} cells, {seconds:.0f} s"


def main() -> None:
    """Run the requested notebooks, and write or check the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="names of notebooks; by default, all")
    parser.add_argument("--check", action="store_true", help="run and compare, but write nothing")
    arguments = parser.parse_args()
    # Notebooks that are written show times, so they run alone.
    with concurrent.futures.ThreadPoolExecutor(2 if arguments.check else 1) as pool:
        run = functools.partial(build, check=arguments.check)
        for line in pool.map(run, arguments.names or NAMES):
            print(line, flush=True)


if __name__ == "__main__":
    main()
