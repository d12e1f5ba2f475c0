"""Sweeps: runs of one experiment over seeds or folds, and the mean and spread of each metric.

The folder contains ``sweep.json`` (the experiment and the seeds), a folder for each run, and
``summary.json``.
"""

import dataclasses
import shutil
import signal
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import rich.console

from jaxcnn import train
from jaxcnn.experiment import run_folder, runner
from jaxcnn.experiment.build import assemble
from jaxcnn.experiment.config import Experiment
from jaxcnn.experiment.execution import Execution
from jaxcnn.experiment.finetune import resolve
from jaxcnn.view.tensorboard import EventFiles


def is_sweep(folder: Path) -> bool:
    """Return whether a folder is a sweep folder."""
    return (folder / "sweep.json").is_file()


def read_config(folder: Path) -> Experiment:
    """Read the experiment of a sweep.

    Raises:
      ValueError: if it cannot be read.
    """
    return _read(folder)[0]


def run_sweep(
    experiment: Experiment,
    workdir: str | Path | None = None,
    *,
    seeds: Sequence[int] = (),
    execution: Execution = Execution(),  # noqa: B008 - immutable
    resume: bool = False,
    console: rich.console.Console | None = None,
) -> dict[str, Any]:
    """Run an experiment once per seed, and per fold if ``folds`` is set and ``fold`` is not.

    Args:
      experiment: the configuration.
      workdir: the sweep folder, which must be new or empty unless ``resume`` is True; None creates
        ``runs/<model>-<data>-sweep``.
      seeds: the seeds; if empty, the experiment's own seed.
      execution: settings that do not affect the results.
      resume: resume the sweep in ``workdir`` with the seeds that it was started with: finished
        runs are kept, and the others are resumed or started. The experiment must equal the stored
        one.
      console: console to print progress to; None prints nothing.

    Returns:
      The contents of ``summary.json``: the ``mean``, ``sd`` (sample standard deviation, 0 for one
      run) and ``values`` of each metric, and ``runs`` (their names); and ``workdir``.

    Raises:
      ValueError: if a seed is given twice, or the folder cannot be used.
      Interrupted: if the sweep was stopped by a signal; its work is saved.

    Example:
      >>> import tempfile
      >>> experiment = Experiment(model="lenet5", epochs=1, batch_size=500)
      >>> summary = run_sweep(experiment, f"{tempfile.mkdtemp()}/sweep", seeds=[1])
      >>> summary["runs"], summary["test_accuracy"]["sd"]
      (['seed1'], 0.0)
    """
    experiment = experiment.with_absolute_paths()
    if resume:
        if workdir is None or not is_sweep(Path(workdir)):
            raise ValueError(f"resume needs a sweep folder, got {workdir}")
        stored, stored_seeds = _read(Path(workdir))
        if seeds and list(seeds) != stored_seeds:
            raise ValueError(
                f"a resumed sweep must keep its seeds, {stored_seeds}, got {list(seeds)}"
            )
        seeds = stored_seeds
        if experiment != stored:
            raise ValueError(f"a resumed sweep must keep its configuration, stored in {workdir}")
    members = _members(experiment, seeds)
    if resume and workdir is not None:
        folder = Path(workdir)
    else:
        # Reject bad input before the folder is created.
        run_folder.check_free(workdir)
        assemble(*resolve(next(iter(members.values()))))
        if execution.tensorboard:
            EventFiles()
        folder = run_folder.new_folder(workdir, f"{run_folder.run_name(experiment)}-sweep")
    config = experiment.to_json()
    sweep = {"format": run_folder.FORMAT, "config": config, "seeds": list(seeds)}
    run_folder.write_json(folder / "sweep.json", sweep)
    results: dict[str, dict[str, Any]] = {}
    with train.stop_signals() as should_stop:
        for name, member in members.items():
            if should_stop.received is not None:
                raise _interrupted(folder / name, should_stop.received)
            if console:
                console.print(f"--- {name} ({len(results) + 1} of {len(members)})", highlight=False)
            results[name] = _run_member(member, folder / name, execution, console, should_stop)
    summary = summarize(results) | {"config": config}
    run_folder.write_json(folder / "summary.json", summary)
    return summary | {"workdir": str(folder)}


def summarize(results: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the mean, sample standard deviation and values of each metric over the runs.

    Example:
      >>> summary = summarize({"a": {"test_loss": 1.0}, "b": {"test_loss": 3.0}})
      >>> summary["test_loss"]
      {'mean': 2.0, 'sd': 1.4142135623730951, 'values': [1.0, 3.0]}
    """
    rows = list(results.values())
    names = [
        name
        for name, value in rows[0].items()
        if isinstance(value, float) and all(isinstance(row.get(name), float) for row in rows)
    ]
    summary: dict[str, Any] = {"runs": list(results), "score": rows[0].get("score")}
    for name in names:
        values = [row[name] for row in rows]
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        summary[name] = {"mean": statistics.mean(values), "sd": spread, "values": values}
    return summary


def _members(experiment: Experiment, seeds: Sequence[int]) -> dict[str, Experiment]:
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds must be distinct, got {' '.join(map(str, seeds))}")
    every_fold = experiment.folds is not None and experiment.fold is None
    folds = range(experiment.folds or 0) if every_fold else [experiment.fold]
    members = {}
    for seed in seeds or [experiment.seed]:
        for fold in folds:
            name = f"seed{seed}" if not every_fold else f"seed{seed}-fold{fold}"
            members[name] = dataclasses.replace(experiment, seed=seed, fold=fold)
    return members


def _read(folder: Path) -> tuple[Experiment, list[int]]:
    """Read a sweep's experiment and seeds."""
    path = folder / "sweep.json"
    values = run_folder.read_json(path)
    run_folder.check_format(folder, values)
    try:
        seeds = values["seeds"]
        if not isinstance(seeds, list) or not all(type(seed) is int for seed in seeds):
            raise ValueError(f"seeds must be a list of integers, got {seeds!r}")
        return Experiment.from_json(values["config"]), seeds
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error


def _run_member(
    experiment: Experiment,
    folder: Path,
    execution: Execution,
    console: rich.console.Console | None,
    should_stop: train.StopRequest,
) -> dict[str, Any]:
    """Return the stored result of a run, or resume or start the run."""
    if (folder / "result.json").is_file():
        return run_folder.read_json(folder / "result.json")
    started = (folder / "config.json").is_file()
    if not started and (folder / "run.json").is_file():
        shutil.rmtree(folder)  # stopped before its configuration was written
    try:
        return runner.run(
            experiment,
            folder,
            execution=execution,
            resume=started,
            console=console,
            should_stop=should_stop,
        )
    except runner.Interrupted as stop:
        raise _interrupted(folder, stop.signal) from None


def _interrupted(folder: Path, number: signal.Signals) -> runner.Interrupted:
    return runner.Interrupted(
        f"stopped in {folder}, all work saved; resume with: "
        f"jaxcnn train --workdir {folder.parent} --resume",
        number,
    )
