"""Several runs of one experiment, over seeds or folds, with the mean and the spread of each metric.

``sweep.json`` (the experiment and the seeds), a run's folder for each, and ``summary.json``.
"""

import dataclasses
import json
import shutil
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import rich.console

from jaxcnn.experiment import run_folder, runner
from jaxcnn.experiment.build import assemble
from jaxcnn.experiment.config import Experiment
from jaxcnn.experiment.finetune import resolve
from jaxcnn.experiment.splits import with_absolute_paths
from jaxcnn.view.tensorboard import EventFiles


def is_sweep(folder: Path) -> bool:
    """Whether a folder holds a sweep."""
    return (folder / "sweep.json").is_file()


def read_config(folder: Path) -> Experiment:
    """The experiment of a sweep's folder.

    Raises:
      ValueError: if it cannot be read.
    """
    try:
        return Experiment.from_json(_read(folder)["config"])
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{folder / 'sweep.json'} cannot be read: {error}") from error


def run_sweep(
    experiment: Experiment,
    workdir: str | Path | None = None,
    *,
    seeds: Sequence[int] = (),
    resume: bool = False,
    console: rich.console.Console | None = None,
    tensorboard: bool = False,
) -> dict[str, Any]:
    """Run an experiment once for each seed, and for each fold if it has folds and names none.

    Args:
      experiment: what to do.
      workdir: the sweep's folder, new or empty; None makes ``runs/<model>-<data>-sweep``.
      seeds: the seeds; none for the experiment's own.
      resume: go on with the sweep in ``workdir``, with the seeds it was started with: finished
        runs stay, the others go on or start. The experiment must be the stored one.
      console: where to show progress; None is silent.
      tensorboard: as for `jaxcnn.experiment.runner.run`.

    Returns:
      The content of ``summary.json``: for each metric of the runs its ``mean``, ``sd`` (of the
      sample, 0 for one run) and ``values``, with ``runs`` (their names) and ``workdir``.

    Raises:
      ValueError: if a seed is given twice, or the folder will not do.
      Interrupted: if it was stopped by a signal, after saving.
    """
    experiment = with_absolute_paths(experiment)
    if resume:
        if workdir is None or not is_sweep(Path(workdir)):
            raise ValueError(f"resume needs the folder of a sweep, got {workdir}")
        stored = _read(Path(workdir))["seeds"]
        if seeds and list(seeds) != stored:
            raise ValueError(f"a resumed sweep keeps its seeds, {stored}, got {list(seeds)}")
        seeds = stored
        if experiment != read_config(Path(workdir)):
            raise ValueError(f"a resumed sweep keeps its configuration, that of {workdir}")
    members = _members(experiment, seeds)
    if resume and workdir is not None:
        folder = Path(workdir)
    else:
        # What will not do is refused before there is a folder.
        assemble(*resolve(next(iter(members.values()))))
        if tensorboard:
            EventFiles()
        folder = run_folder.new_folder(workdir, f"{run_folder.run_name(experiment)}-sweep")
    sweep = {"config": experiment.to_json(), "seeds": list(seeds)}
    run_folder.write_json(folder / "sweep.json", sweep)
    results: dict[str, dict[str, Any]] = {}
    for name, member in members.items():
        if console:
            console.print(f"--- {name} ({len(results) + 1} of {len(members)})", highlight=False)
        results[name] = _run_member(member, folder / name, console, tensorboard)
    summary = summarize(results) | {"config": sweep["config"]}
    run_folder.write_json(folder / "summary.json", summary)
    return summary | {"workdir": str(folder)}


def summarize(results: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Mean, standard deviation of the sample, and values of each metric over runs.

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
        raise ValueError(f"seeds must differ, got {' '.join(map(str, seeds))}")
    every_fold = experiment.folds is not None and experiment.fold is None
    folds = range(experiment.folds or 0) if every_fold else [experiment.fold]
    members = {}
    for seed in seeds or [experiment.seed]:
        for fold in folds:
            name = f"seed{seed}" if not every_fold else f"seed{seed}-fold{fold}"
            members[name] = dataclasses.replace(experiment, seed=seed, fold=fold)
    return members


def _read(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "sweep.json").read_text())


def _run_member(
    experiment: Experiment, folder: Path, console: rich.console.Console | None, tensorboard: bool
) -> dict[str, Any]:
    """A run's result: stored, or of a run that goes on, or of a new one."""
    if (folder / "result.json").is_file():
        return json.loads((folder / "result.json").read_text())
    # Other names there are of saves that were not finished.
    started = any(path.name.isdigit() for path in (folder / "checkpoints").glob("*"))
    if not started and (folder / "config.json").is_file():
        shutil.rmtree(folder)  # stopped before its first checkpoint
    try:
        return runner.run(
            experiment, folder, resume=started, console=console, tensorboard=tensorboard
        )
    except runner.Interrupted:
        raise runner.Interrupted(
            f"stopped in {folder}, all work saved; go on with: "
            f"jaxcnn train --workdir {folder.parent} --resume"
        ) from None
