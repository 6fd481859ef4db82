"""A signal ends the node whatever its main thread is doing at that moment."""

from __future__ import annotations

import subprocess
import sys

# The node's own loop with nothing to do. The signal comes during its pause; if that is the wait of an event, at the
# worst moment, when the lock of that event is held.
LOOP = """
import contextlib, os, signal, threading, time, types
from medsr.node import service

def term():
    os.kill(os.getpid(), signal.SIGTERM)

class Event(threading.Event):
    def wait(self, timeout=None):
        if threading.current_thread() is threading.main_thread():
            with self._cond:
                term()
        return super().wait(timeout)

class Idle(threading.Thread):
    def __init__(self, *arguments):
        super().__init__(daemon=True)
        self.stop, self.wake = arguments[-1], threading.Event()
    def run(self):
        self.stop.wait()

spool = types.SimpleNamespace(series=0, incoming=".", expire=lambda *days: None)
still = types.SimpleNamespace(complete=lambda: None, step=lambda: False, give_back=lambda: None, stop=lambda: None)
service.threading = types.SimpleNamespace(Event=Event)
service.time = types.SimpleNamespace(monotonic=time.monotonic, sleep=lambda seconds: term())
service.opened = lambda queue: contextlib.nullcontext(spool)
service.Worker = service.Intake = service.Receiver = lambda *arguments: still
service.Sender = Idle
names = ("queue", "ae_title", "host", "port", "destination", "keep_done_days", "remember_days", "keep_failed_days")
service.serve(types.SimpleNamespace(**dict.fromkeys(names)))
print("ended", flush=True)
"""


def test_a_signal_never_leaves_the_node_waiting_for_itself() -> None:
    done = subprocess.run([sys.executable, "-c", LOOP], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "ended"
