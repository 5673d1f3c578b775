"""Three Kafka brokers (KRaft, replication 3, two replicas in sync needed), each advertised to clients through a fault proxy.

The suite itself speaks to them directly, on a second listener: what it reads and counts does not go through the faults."""

import os
import pathlib
import socket

import confluent_kafka as ck
import confluent_kafka.admin as ck_admin

import processes
from links import Link

BROKERS = 3
PARTITIONS_OF_STATE = 4
CACHE = pathlib.Path(os.environ.get("STACK_CACHE", pathlib.Path.home() / ".cache/lakelens-stack"))
LIB = CACHE / "kafka-4.3.1"


class Broker:
    def __init__(self, cluster, number, ports):
        self.cluster, self.number = cluster, number
        self.direct, self.client, self.controller, self.proxied = ports
        self.folder = cluster.folder / f"broker-{number}"
        self.process = None
        self.link = Link(cluster.loop, self.proxied, self.client)

    def write_properties(self, voters):
        self.folder.mkdir()
        (self.folder / "server.properties").write_text(
            f"""process.roles=broker,controller
node.id={self.number}
controller.quorum.voters={voters}
listeners=DIRECT://127.0.0.1:{self.direct},CLIENT://127.0.0.1:{self.client},CONTROLLER://127.0.0.1:{self.controller}
advertised.listeners=DIRECT://127.0.0.1:{self.direct},CLIENT://127.0.0.1:{self.proxied}
controller.listener.names=CONTROLLER
inter.broker.listener.name=DIRECT
listener.security.protocol.map=CONTROLLER:PLAINTEXT,DIRECT:PLAINTEXT,CLIENT:PLAINTEXT
log.dirs={self.folder}/log
default.replication.factor=3
min.insync.replicas=2
unclean.leader.election.enable=false
offsets.topic.replication.factor=3
offsets.topic.num.partitions={PARTITIONS_OF_STATE}
transaction.state.log.replication.factor=3
transaction.state.log.min.isr=2
transaction.state.log.num.partitions={PARTITIONS_OF_STATE}
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
auto.create.topics.enable=false
leader.imbalance.check.interval.seconds=10
broker.session.timeout.ms=6000
broker.heartbeat.interval.ms=1000
replica.lag.time.max.ms=5000
log.cleaner.dedupe.buffer.size=16777216
num.network.threads=2
num.io.threads=3
background.threads=2
"""
        )

    def java(self, *command, heap):
        return ["java", f"-Xmx{heap}m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", f"{LIB}/*", *command]

    def format(self, cluster_id):
        command = self.java("kafka.tools.StorageTool", "format", "-t", cluster_id, "-c", self.folder / "server.properties", heap=64)
        return processes.spawn(command, self.folder / "format.log")

    def start(self):
        self.process = processes.spawn(self.java("kafka.Kafka", self.folder / "server.properties", heap=256), self.folder / "broker.log", cwd=self.folder)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def answers(self):
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.client)) == 0


class Cluster:
    def __init__(self, folder, loop):
        self.folder, self.loop = folder, loop
        ports = processes.free_ports(4 * BROKERS)
        self.brokers = [Broker(self, n + 1, ports[4 * n : 4 * n + 4]) for n in range(BROKERS)]
        self.direct = ",".join(f"127.0.0.1:{b.direct}" for b in self.brokers)
        self.proxied = ",".join(f"127.0.0.1:{b.proxied}" for b in self.brokers)
        self.admin = None

    def start(self):
        voters = ",".join(f"{b.number}@127.0.0.1:{b.controller}" for b in self.brokers)
        formats = []
        for broker in self.brokers:
            broker.write_properties(voters)
            formats.append(broker.format("bGFrZWxlbnMtZmF1bHRzLQ"))
        for process in formats:
            assert process.wait(120) == 0, "a broker's storage could not be formatted"
        for broker in self.brokers:
            broker.start()
        self.admin = ck_admin.AdminClient({"bootstrap.servers": self.direct, "log_level": 0})
        processes.wait_until("three brokers", lambda: len(self.metadata().brokers) == BROKERS, 120)

    def metadata(self, topic=None):
        try:
            return self.admin.list_topics(topic, timeout=5)
        except ck.KafkaException:
            return ck_admin.ClusterMetadata()

    def whole(self):
        """Whether every broker is up and every replica in sync."""
        if not all(b.alive() and b.answers() for b in self.brokers):
            return False
        metadata = self.metadata()
        partitions = [p for t in metadata.topics.values() for p in t.partitions.values()]
        return len(metadata.brokers) == BROKERS and bool(partitions) and all(len(p.isrs) == len(p.replicas) and p.leader > 0 for p in partitions)

    def make_topic(self, name, partitions, **config):
        new = ck_admin.NewTopic(name, partitions, BROKERS, config={k.replace("_", "."): str(v) for k, v in config.items()})
        self.admin.create_topics([new])[name].result(60)
        processes.wait_until(name, lambda: self.partitions(name) == partitions)
        return name

    def partitions(self, topic):
        found = self.metadata(topic).topics.get(topic)
        return len(found.partitions) if found else 0

    def add_partition(self, topic):
        count = self.partitions(topic) + 1
        self.admin.create_partitions([ck_admin.NewPartitions(topic, count)])[topic].result(30)

    def leader(self, topic, partition):
        return self.broker(self.metadata(topic).topics[topic].partitions[partition].leader)

    def broker(self, number):
        return self.brokers[number - 1] if number and number > 0 else None

    def group_coordinator(self, group):
        """The leader of the partition that keeps the group's offsets, found as brokers find it: by Java's hash of the name."""
        value = 0
        for char in group:
            value = (31 * value + ord(char)) & 0xFFFFFFFF
        return self.leader("__consumer_offsets", (value & 0x7FFFFFFF) % PARTITIONS_OF_STATE)

    def transaction_coordinator(self):
        """The leader of the partition in which a transaction's state was written last."""
        consumer = self.consumer("suite")
        try:
            newest = (-1, 0)
            for partition in range(PARTITIONS_OF_STATE):
                place = ck.TopicPartition("__transaction_state", partition)
                _, high = consumer.get_watermark_offsets(place, 5)
                if high == 0:
                    continue
                place.offset = high - 1
                consumer.assign([place])
                message = consumer.poll(3)
                if message is not None and not message.error():
                    newest = max(newest, (message.timestamp()[1], partition))
            return self.leader("__transaction_state", newest[1])
        finally:
            consumer.close()

    def consumer(self, group):
        return ck.Consumer({"bootstrap.servers": self.direct, "group.id": group, "enable.auto.commit": False, "log_level": 0})

    def ends(self, topic):
        """Oldest offset and end of each partition."""
        consumer = self.consumer("suite")
        try:
            return {p: consumer.get_watermark_offsets(ck.TopicPartition(topic, p), 10) for p in range(self.partitions(topic))}
        finally:
            consumer.close()

    def committed(self, group, topic):
        """The group's offset in each partition, 0 where it has none."""
        consumer = self.consumer(group)
        try:
            places = [ck.TopicPartition(topic, p) for p in range(self.partitions(topic))]
            return {p.partition: max(p.offset, 0) for p in consumer.committed(places, 10)}
        finally:
            consumer.close()

    def lag(self, group, topic):
        """Messages that the group has not committed; None while the brokers do not say."""
        try:
            ends, committed = self.ends(topic), self.committed(group, topic)
        except ck.KafkaException:
            return None
        return sum(high - max(committed.get(p, 0), low) for p, (low, high) in ends.items())

    def close(self):
        for broker in self.brokers:
            if broker.alive():
                broker.kill()
        self.brokers = []

