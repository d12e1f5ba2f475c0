"""The `jaxcnn` command in a process that signals itself at a chosen moment.

Usage: trainer.py MOMENT:COUNT:SIGNAL[,SIGNAL]:SECONDS EVENTS ARGUMENT...

``MOMENT`` names a function of `MOMENTS`; the signals are sent when it is called for the
``COUNT``-th time, ``SECONDS`` later if that is not 0 (``-:0:SIGTERM:0`` sends none). Each call is
appended to the file ``EVENTS``, and so is the end of each save, so that a campaign knows what was
complete when the process ended.
"""

import functools
import importlib
import os
import signal
import sys
import threading

MOMENTS = {
    "read": ("jaxcnn.experiment.runner", "assemble"),
    "folder": ("jaxcnn.experiment.runner", "new_folder"),
    "config": ("jaxcnn.experiment.runner", "write_record"),
    "train": ("jaxcnn.experiment.runner", "_train"),
    "step": ("jaxcnn.train.loop", "add_counts"),
    "write": ("jaxcnn.train.checkpoint", "_write"),
    "verify": ("jaxcnn.train.checkpoint", "_read"),
    "clean": ("jaxcnn.train.checkpoint", "_best_step"),
    "history": ("jaxcnn.experiment.runner", "_write_history"),
    "validate": ("jaxcnn.train", "evaluate"),
    "row": ("jaxcnn.train.loop", "_row"),
    "predict": ("jaxcnn.train", "predict"),
    "finish": ("jaxcnn.experiment.runner", "_finish"),
    "draw": ("jaxcnn.experiment.runner", "_draw"),
    "figure": ("jaxcnn.view.plots", "save_figure"),
    "result": ("jaxcnn.experiment.runner", "write_json"),
}


def send(names: str) -> None:
    """Send signals to this process."""
    for name in names.split(","):
        os.kill(os.getpid(), signal.Signals[name])


def main() -> int:
    """Install the moments, run the command, and return its exit code."""
    moment, count, names, seconds = sys.argv[1].split(":")
    events = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    calls = dict.fromkeys(MOMENTS, 0)

    def watch(name, function):
        @functools.wraps(function)
        def watched(*arguments, **options):
            calls[name] += 1
            os.write(events, f"{name} {calls[name]}\n".encode())
            if name == moment and calls[name] == int(count):
                if float(seconds):
                    threading.Timer(float(seconds), send, [names]).start()
                else:
                    send(names)
            return function(*arguments, **options)

        return watched

    from jaxcnn.commands.signals import handle_signals

    handle_signals()
    for name, (module, function) in MOMENTS.items():
        imported = importlib.import_module(module)
        setattr(imported, function, watch(name, getattr(imported, function)))
    checkpoint = importlib.import_module("jaxcnn.train.checkpoint")
    save = checkpoint.save

    def saved(folder, snapshot, **options):
        save(folder, snapshot, **options)
        os.write(events, f"saved {int(snapshot.state.step)}\n".encode())

    checkpoint.save = saved
    from jaxcnn.commands.main import run_as_process

    return run_as_process(sys.argv[3:])


if __name__ == "__main__":
    sys.exit(main())
