"""Run a module and sample what its threads are at: `python -m bench.sampled FILE MODULE ARGS`.

Every few milliseconds each thread's stack is looked at. A sample belongs to the stage of the
innermost frame that is in our code; threads that wait do not count. SIGUSR1 forgets the samples so
far. FILE gets the number of samples by stage as JSON, when the module ends.
"""

import json
import runpy
import signal
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from types import FrameType

SECONDS = 0.005
ROOT = f"{Path(__file__).parents[1]}/"
IDLE = {
    ("selectors.py", "select"),
    ("threading.py", "wait"),
    ("threading.py", "run"),  # nothing but C: gRPC's thread that waits for the network
    ("thread.py", "_worker"),
    ("_common.py", "_wait_once"),
    ("_server.py", "_serve"),
}
# The longest path that a file begins with names its stage.
STAGES = {
    "": "event loop, gRPC",
    "adapters/embedded/node/": "node: calls",
    "adapters/embedded/node/changes.py": "node: protobuf to engine",
    "adapters/embedded/node/payload.py": "node: payloads",
    "adapters/embedded/node/points.py": "node: engine to protobuf, scroll",
    "adapters/embedded/node/shard.py": "node: engine writes",
    "adapters/embedded/node/vectors.py": "node: vectors",
    "adapters/kafka/": "Kafka",
    "adapters/objects/": "object storage",
    "adapters/postgres/": "PostgreSQL",
    "adapters/qdrant/": "Qdrant: points to and from protobuf",
    "adapters/qdrant/calls.py": "Qdrant: calls",
    "domain/model/bodies.py": "Parquet",
    "domain/model/points.py": "hashes and JSON",
    "domain/use_cases/": "use cases",
    "projections/": "projections",
}


def stage(frame: FrameType | None) -> str | None:
    """What a thread is at, or None if it waits."""
    if frame is None or (Path(frame.f_code.co_filename).name, frame.f_code.co_name) in IDLE:
        return None
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith(ROOT) and "/.venv/" not in file and file != __file__:
            inside = file.removeprefix(ROOT)
            return STAGES[max((p for p in STAGES if inside.startswith(p)), key=len)]
        frame = frame.f_back
    return STAGES[""]


def main() -> None:
    """Run the module that is named, with the arguments that follow it."""
    out, module, *arguments = sys.argv[1:]
    samples: Counter[str] = Counter()
    ended = threading.Event()

    def sample() -> None:
        me = threading.get_ident()
        while not ended.is_set():
            for thread, frame in sys._current_frames().items():  # noqa: SLF001
                if thread != me and (found := stage(frame)) is not None:
                    samples[found] += 1
            time.sleep(SECONDS)

    signal.signal(signal.SIGUSR1, lambda *_: samples.clear())
    sampler = threading.Thread(target=sample, daemon=True)
    sampler.start()
    sys.argv = [module, *arguments]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        ended.set()
        sampler.join()
        Path(out).write_text(json.dumps(samples))


if __name__ == "__main__":
    main()
