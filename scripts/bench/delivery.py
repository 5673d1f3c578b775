"""Exactly-once beside at-least-once, the same worker on the same servers, in turns: the ratio of images a second.

    eval "$(scripts/stack env)"; python scripts/bench/delivery.py [--images 1500] [--rounds 3]

Needs boto3, confluent-kafka, numpy and pillow, and target/release/lakelens. Broker and store share the cores with the worker.
"""

import argparse
import pathlib
import statistics
import tempfile

from lake import ROOT, Lake


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=1500)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        lake = Lake(args.images, f"{folder}/model")
        text = (ROOT / "pipelines/kafka-s3.yaml").read_text()
        for n in range(args.rounds):
            measured = {}
            # In turns which of them goes first.
            for delivery in ("exactly-once", "at-least-once")[:: 1 if n % 2 else -1]:
                pipeline = pathlib.Path(folder) / f"{delivery}.yaml"
                pipeline.write_text(f"{text}delivery: {delivery}\n")
                measured[delivery] = lake.worker(pipeline, f"{n}-{delivery}")
            ratios.append(measured["exactly-once"] / measured["at-least-once"])
            print(f"round {n + 1}: exactly-once {measured['exactly-once']:.1f} images/s, at-least-once {measured['at-least-once']:.1f}, ratio {ratios[-1]:.3f}", flush=True)
    print(f"median ratio {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})")


if __name__ == "__main__":
    main()
