"""onnxruntime and OpenVINO on the graphs that `lakelens bench engine --peers` measures, taking turns with it.

    python peers.py GRAPH --side 224 --threads N --precision f32,bf16 [--turn 0.25]      (needs onnxruntime, openvino and numpy)

Keeps itself to the first N cores, so that N threads have N cores. Prints a line of JSON with the ways to run the graph that there are ("settings") and
then, for each line on stdin, one with the best seconds an image of each of them; ends when stdin does. With a QDQ graph the precision is int8 whatever
is asked. On several threads each runtime is tried both ways: all threads on one image, and an image for each thread.
"""

import argparse
import json
import mmap
import os
import pathlib
import sys
import time


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("graph", type=pathlib.Path)
    parser.add_argument("--side", type=int, default=224, help="pixels across and down")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--precision", default="f32", help="f32, bf16 or both")
    parser.add_argument("--turn", type=float, default=0.25, help="seconds of each way to run it, each time")
    return parser.parse_args()


def quantised(graph):
    with open(graph, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        return text.find(b"DequantizeLinear") >= 0


def onnxruntime_ways(args, picture):
    """Yields (setting, images of a call, a function that runs one)."""
    import concurrent.futures

    import onnxruntime

    def session(threads):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        # Threads that still spin would disturb whoever has the next turn.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        return onnxruntime.InferenceSession(str(args.graph), options, providers=["CPUExecutionProvider"])

    one = session(args.threads)
    feed = {one.get_inputs()[0].name: picture}
    yield "a thread" if args.threads == 1 else f"{args.threads} threads on an image", 1, lambda: one.run(None, feed)
    if args.threads > 1:
        # A session of one thread has no threads of its own: it runs on the caller's.
        sessions = [session(1) for _ in range(args.threads)]
        pool = concurrent.futures.ThreadPoolExecutor(args.threads)
        work = [lambda s=s: s.run(None, feed) for s in sessions]
        yield "an image a thread", args.threads, lambda: [done.result() for done in [pool.submit(w) for w in work]]


def openvino_ways(args, picture, precision):
    import openvino

    core = openvino.Core()
    model = core.read_model(args.graph)
    model.reshape([1, *picture.shape[1:]])
    # The precision is said, or OpenVINO takes bf16 by itself where the processor has it.
    hint = {"f32": "f32", "bf16": "bf16", "int8": "f32"}[precision]
    common = {"INFERENCE_NUM_THREADS": args.threads, "INFERENCE_PRECISION_HINT": hint, "ENABLE_CPU_PINNING": True}
    latency = core.compile_model(model, "CPU", {**common, "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1})
    request = latency.create_infer_request()
    request.set_input_tensor(openvino.Tensor(picture))
    yield "a thread" if args.threads == 1 else f"{args.threads} threads on an image", 1, request.infer
    if args.threads > 1:
        streams = core.compile_model(model, "CPU", {**common, "PERFORMANCE_HINT": "THROUGHPUT", "NUM_STREAMS": args.threads})
        requests = [streams.create_infer_request() for _ in range(args.threads)]
        for each in requests:
            each.set_input_tensor(openvino.Tensor(picture))

        def all_of_them():
            for each in requests:
                each.start_async()
            for each in requests:
                each.wait()

        yield "an image a thread", args.threads, all_of_them


def turn(run, images, seconds, alone):
    """Seconds an image: the best call of a thread that is alone; where threads wait for each other, the mean of the turn, as ours are measured."""
    run()
    best, calls, start = float("inf"), 0, time.perf_counter()
    while calls == 0 or time.perf_counter() - start < seconds:
        call = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - call)
        calls += 1
    return (best if alone else (time.perf_counter() - start) / calls) / images


def main():
    args = arguments()
    # Before the runtimes start threads, which inherit it.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.threads])
    try:
        import numpy
        import onnxruntime
        import openvino
    except ImportError as error:
        sys.exit(f"{error}; install what is compared with: {sys.executable} -m pip install onnxruntime openvino numpy")
    picture = numpy.random.default_rng(0).random((1, 3, args.side, args.side), dtype=numpy.float32)
    versions = {"onnxruntime": onnxruntime.__version__, "openvino": openvino.__version__.split("-")[0]}
    precisions = ["int8"] if quantised(args.graph) else [p for p in args.precision.split(",") if p in ("f32", "bf16")]
    ways = []
    for precision in precisions:
        for runtime, version in versions.items():
            # onnxruntime has no bf16 on processors.
            if runtime == "onnxruntime" and precision == "bf16":
                continue
            found = onnxruntime_ways(args, picture) if runtime == "onnxruntime" else openvino_ways(args, picture, precision)
            for setting, images, run in found:
                ways.append(({"runtime": runtime, "version": version, "precision": precision, "setting": setting}, images, run))
    print(json.dumps([name for name, _, _ in ways]), flush=True)
    for _ in sys.stdin:
        print(json.dumps([turn(run, images, args.turn, args.threads == 1) for _, images, run in ways]), flush=True)


if __name__ == "__main__":
    main()
