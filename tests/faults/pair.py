"""Two workers of one pipeline that writes files, killed and frozen by turns while there is work."""

import json
import random
import re
import time

import processes
from workers import SESSION_SECONDS, environment

WORKERS = 2


class Worker:
    """One of the two; `logs` are those of all its lives. A life that ends with code 1 and says `excuse` did right."""

    def __init__(self, stage, name, number, file, excuse=None):
        self.stage, self.name, self.number, self.file, self.excuse = stage, f"{name}, worker {number}", number, file, excuse
        self.logs, self.process = [], None
        self.gateway = stage.server.gateways[1 + number]

    def start(self, *more):
        self.logs.append(self.file.with_name(f"{self.file.stem}-{len(self.logs):02}.log"))
        self.process = processes.spawn([self.stage.binary, "run", self.file, *more], self.logs[-1], env=environment())

    def text(self):
        return self.logs[-1].read_text(errors="replace")

    def judge(self, wrong, what):
        """Notes an end that was not asked for, unless it is excused."""
        print(f"{self.name} {what} with {self.process.returncode}", flush=True)
        if self.process.returncode != 1 or self.excuse is None or self.excuse not in self.text():
            wrong.append(f"{self.name} {what} with {self.process.returncode}:\n{self.text()[-3000:]}")

    def assigned(self):
        """Each life's partitions that were ever its own."""
        return [set(re.findall(r"(\S+): assigned, from offset", log.read_text(errors="replace"))) for log in self.logs]

    def lag(self):
        """Messages that the group has not committed."""
        source = json.loads(self.file.read_text())["source"]["kafka"]
        return sum(self.stage.cluster.lag(source["group"], topic) or 0 for topic in source.get("topics") or source["records"])


def played(stage, options, name, file_of, more_work, excuse=None):
    """Strikes two workers, whose pipelines are `file_of(number)`, until each fault struck work often enough; then `more_work` is asked to end, and one
    worker does what is left. What went wrong, if anything."""
    kills, freezes = (3, 1) if options.short else (12, 3)
    rng = random.Random(options.seed)
    workers = [Worker(stage, name, n, file_of(n), excuse) for n in range(WORKERS)]
    for worker in workers:
        worker.start()
        stage.closers.append(lambda worker=worker: processes.stop(worker.process, 1))
    wrong = []
    plan = ["killed"] * kills + ["frozen"] * freezes
    rng.shuffle(plan)
    for how in plan:
        worker = rng.choice(workers)
        while not strike(stage, rng, name, worker, how):
            worker.judge(wrong, "ended by itself")
            worker.start()
    more_work()
    print(f"{name}: {kills} killed and {freezes} frozen; working off what is left", flush=True)
    for worker in workers:
        worker.gateway.heal()
        # One that was started a moment ago does not listen yet.
        processes.wait_until(f"{worker.name} to be there", lambda: worker.process.poll() is not None or worker.assigned()[-1], 60, 0.1)
        worker.process.terminate()
    for worker in workers:
        if worker.process.wait(60):
            worker.judge(wrong, "did not drain")
    workers[0].start("--until-idle", "4s")
    if workers[0].process.wait(180):
        wrong.append(f"the last worker ended with {workers[0].process.returncode}:\n{workers[0].text()[-3000:]}")
    lives = [life for worker in workers for life in worker.assigned()]
    both = set().union(*workers[0].assigned()) & set().union(*workers[1].assigned())
    print(f"{name}: {len(both)} partitions were held by both workers, in {len(lives)} lives", flush=True)
    struck = {how: stage.tally.hits[f"{name} worker {how}"] for how in ("killed", "frozen")}
    if struck != {"killed": kills, "frozen": freezes}:
        wrong.append(f"struck while there was work: {struck}")
    if not both:
        wrong.append("no partition moved")
    return wrong


def strike(stage, rng, name, worker, how):
    """Once the worker has partitions and speaks to its store, and something is left to do; its store may be in trouble besides. Whether it lived until then."""

    def at_work():
        return worker.process.poll() is not None or (worker.assigned()[-1] and worker.gateway.asked > begun and worker.lag() > 0)

    begun = time.monotonic()
    processes.wait_until(f"{worker.name} to be at work", at_work, 120, 0.1)
    if worker.process.poll() is not None:
        return False
    if rng.random() < 0.4:
        worker.gateway.fault(rng.choice(["storm", "reset", "truncate", "slow"]), 0.5)
    time.sleep(rng.uniform(0, 2))
    if worker.process.poll() is not None:
        return False
    stage.tally.strike(f"{name} worker {how}", worker.lag() > 0)
    print(f"{worker.name} {how}, with {worker.gateway.mode or 'no trouble'} in its store", flush=True)
    if how == "killed":
        worker.process.kill()
        worker.process.wait()
        time.sleep(rng.choice([0, 0, SESSION_SECONDS + 1]))
    else:
        worker.process.send_signal(processes.signal.SIGSTOP)
        time.sleep(SESSION_SECONDS + 4)
        worker.process.send_signal(processes.signal.SIGCONT)
    worker.gateway.heal()
    if how == "killed":
        worker.start()
    return True
