"""What a user would write otherwise: a Python worker over onnxruntime, a process a core. Reads references from a topic, pulls the pictures from S3, labels
them and publishes labels and embeddings. Ends when the topic gave nothing for a few seconds.

    python_worker.py --brokers B --topic T --labels L --embeddings E --model model.onnx [--processes N]
"""

import argparse
import io
import json
import multiprocessing
import os
import time

import numpy as np


def preprocess(body):
    from PIL import Image

    image = Image.open(io.BytesIO(body)).convert("RGB")
    w, h = image.size
    size = (256, 256 * h // w) if w <= h else (256 * w // h, 256)
    image = image.resize(size, Image.BILINEAR)
    left, top = round((size[0] - 224) / 2), round((size[1] - 224) / 2)
    pixels = np.asarray(image.crop((left, top, left + 224, top + 224)), np.float32) / 255
    pixels = (pixels - np.float32([0.485, 0.456, 0.406])) / np.float32([0.229, 0.224, 0.225])
    return pixels.transpose(2, 0, 1)


def work(args, group, finished):
    import boto3
    import botocore.config
    import confluent_kafka
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(args.model, options, providers=["CPUExecutionProvider"])
    s3 = boto3.client("s3", endpoint_url=os.environ["S3_ENDPOINT"], region_name="us-east-1", config=botocore.config.Config(s3={"addressing_style": "path"}))
    consumer = confluent_kafka.Consumer({"bootstrap.servers": args.brokers, "group.id": group, "auto.offset.reset": "earliest", "enable.auto.commit": False})
    producer = confluent_kafka.Producer({"bootstrap.servers": args.brokers, "linger.ms": 5, "enable.idempotence": True})
    consumer.subscribe([args.topic])
    first = last = None
    done = 0
    while last is None or time.time() - last < 4:
        messages = consumer.consume(args.batch, 0.5)
        if not messages:
            continue
        first = first or time.time()
        uris = [json.loads(m.value())["uri"] if m.value().startswith(b"{") else m.value().decode() for m in messages]
        bodies = []
        for uri in uris:
            bucket, key = uri.removeprefix("s3://").split("/", 1)
            bodies.append(s3.get_object(Bucket=bucket, Key=key)["Body"].read())
        for uri, body in zip(uris, bodies):
            logits, embedding = session.run(["logits", "embedding"], {session.get_inputs()[0].name: preprocess(body)[None]})
            scores = np.exp(logits[0] - logits[0].max())
            scores /= scores.sum()
            best = scores.argsort()[::-1][:5]
            producer.produce(args.labels, key=uri, value=json.dumps({"uri": uri, "labels": [{"index": int(i), "score": float(scores[i])} for i in best]}))
            producer.produce(args.embeddings, key=uri, value=json.dumps({"uri": uri, "embedding": embedding[0].tolist()}))
        producer.flush()
        consumer.commit(asynchronous=False)
        last = time.time()
        done += len(messages)
    consumer.close()
    finished.put((done, first, last))


def main():
    parser = argparse.ArgumentParser()
    for name in ("brokers", "topic", "labels", "embeddings", "model"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    args = parser.parse_args()
    finished = multiprocessing.Queue()
    group = f"python-{time.time()}"
    workers = [multiprocessing.Process(target=work, args=(args, group, finished)) for _ in range(args.processes)]
    [w.start() for w in workers]
    results = [finished.get() for _ in workers]
    [w.join() for w in workers]
    begun = min(first for _, first, _ in results if first)
    ended = max(last for _, _, last in results if last)
    done = sum(n for n, _, _ in results)
    print(json.dumps({"images": done, "seconds": ended - begun, "images_per_s": done / (ended - begun)}))


if __name__ == "__main__":
    main()
