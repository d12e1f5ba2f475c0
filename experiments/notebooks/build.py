"""Run the notebooks' scripts, and write the notebooks with their outputs.

Each notebook is a pair: ``NAME.py``, which is edited and diffs well (cells are marked ``# %%``, as
jupytext and editors know them), and ``NAME.ipynb``, which this script makes from it, with outputs.

Command: ``pip install -e ".[notebooks]" && python experiments/notebooks/build.py``
With ``--check`` nothing is written: each notebook runs, offline and in a new process, from top to
bottom, and its file must have the same cells. Output on standard error, warnings included, is a
failure.
"""

import argparse
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
    """The notebook of a script, without outputs; the same script gives the same notebook."""
    notebook = jupytext.read(HERE / f"{name}.py", fmt="py:percent")
    notebook.metadata = nbformat.from_dict({"kernelspec": KERNEL})
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
        cell.metadata = nbformat.from_dict({})
    return notebook


def execute(notebook: nbformat.NotebookNode) -> float:
    """Run all cells in a new process, and return the seconds that it took.

    Raises:
      SystemExit: if a cell fails, or writes to standard error.
    """
    began = time.perf_counter()
    client = nbclient.NotebookClient(
        notebook,
        timeout=900,  # seconds for a cell, on however busy a machine
        kernel_name="python3",
        coalesce_streams=True,  # as the same run gives the same file
        extra_arguments=["--log-level=ERROR"],  # not that it talks over TCP, to this machine alone
        resources={"metadata": {"path": str(HERE)}},
    )
    try:
        client.execute(env=os.environ | {"PYTHONWARNINGS": "always::UserWarning"})
    except nbclient.exceptions.CellExecutionError as error:
        raise SystemExit(str(error)) from None
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict({})  # when it ran
        for output in cell.get("outputs", ()):
            if output.output_type == "stream" and output.name == "stderr":
                raise SystemExit(f"a cell wrote to standard error:\n{cell.source}\n{output.text}")
    return time.perf_counter() - began


def main() -> None:
    """Run the notebooks asked for, and write or check what they give."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="by default all")
    parser.add_argument("--check", action="store_true", help="write nothing")
    arguments = parser.parse_args()
    for name in arguments.names or NAMES:
        notebook, path = read_script(name), HERE / f"{name}.ipynb"
        sources = [cell.source for cell in notebook.cells]
        if arguments.check:
            written = nbformat.read(path, as_version=4)
            if [cell.source for cell in written.cells] != sources:
                raise SystemExit(f"{path.name} is not of the present script: run build.py {name}")
        seconds = execute(notebook)
        if not arguments.check:
            nbformat.write(notebook, path)
        print(f"{name}: {len(sources)} cells, {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
