"""Ports, and child processes that do not outlive the suite, however that ends."""

import contextlib
import ctypes
import pathlib
import random
import signal
import socket
import subprocess
import time

_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1


def _die_with_parent():
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def spawn(command, log, **more):
    """Starts a child with its output in the file `log`. A session of its own, so that a Ctrl-C in the terminal reaches the suite alone, which then stops
    it in order. To be called from the main thread: the kernel ends the child with the thread that made it."""
    with open(log, "ab") as out:
        return subprocess.Popen(
            list(map(str, command)), stdout=out, stderr=out, stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=_die_with_parent, **more
        )


def stop(process, patience=10):
    """Asks, waits, kills."""
    if process is None or process.poll() is not None:
        return
    process.send_signal(signal.SIGCONT)
    process.terminate()
    try:
        process.wait(patience)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def free_ports(count):
    """Ports that nobody listens on, below the range from which the system takes those of outgoing connections."""
    ports, rng = [], random.Random()
    while len(ports) < count:
        port = rng.randrange(15000, 30000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in ports:
            ports.append(port)
    return ports


def wait_until(what, condition, patience=60, every=0.2):
    deadline = time.monotonic() + patience
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what}: not within {patience} s"
        time.sleep(every)
    return value


def children(parent):
    """The processes whose parent this is, and that still live."""
    found = []
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, of = stat.read_text().rsplit(")", 1)[1].split()[:2]
            if int(of) == parent and state not in "ZX":
                found.append(int(stat.parent.name))
    return found
