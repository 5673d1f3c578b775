#!/usr/bin/env python3
"""Holds Kubernetes manifests, as kustomize wrote them, to what their schemas cannot say: that the parts fit each other and the program.

    check_manifests.py MANIFESTS.yaml [--crd CUSTOM_RESOURCE_DEFINITION.yaml]...    needs PyYAML, and jsonschema for --crd

Selectors find the pods; the budget, the autoscaler and the service are of this workload; probes and ports are those of `telemetry.listen`; every variable of the
pipeline has a value; workers may drain before they are killed; pods keep to the standard `restricted`; static members are not autoscaled.
Ends with 0, or with 1 and a line for each mistake.
"""

import argparse
import re
import sys

import yaml

DRAIN_LIMIT = 30  # seconds that a worker may take to stop: STOP_LIMIT in src/worker/coordinator.rs, and the farewell to its group


class Manifests:
    def __init__(self, documents):
        self.documents = documents
        self.mistakes = []
        self.workload = next(d for d in documents if d["kind"] in ("Deployment", "StatefulSet"))
        self.pod = self.workload["spec"]["template"]["spec"]
        self.labels = self.workload["spec"]["template"]["metadata"]["labels"]
        (self.container,) = self.pod["containers"]
        self.environment = self.gather_environment()
        self.pipeline_text = next(d for d in self.kind("ConfigMap") if "pipeline.yaml" in d["data"])["data"]["pipeline.yaml"]
        self.pipeline = yaml.safe_load(self.pipeline_text)

    def kind(self, kind):
        return [d for d in self.documents if d["kind"] == kind]

    def gather_environment(self):
        maps = {d["metadata"]["name"]: d["data"] for d in self.kind("ConfigMap")}
        found = {variable["name"] for variable in self.container.get("env", [])}
        for source in self.container.get("envFrom", []):
            if "configMapRef" in source:
                found |= set(maps[source["configMapRef"]["name"]])
        return found

    def hold(self, condition, mistake):
        if not condition:
            self.mistakes.append(mistake)

    def check_selectors(self):
        selected = {f"{self.workload['kind']}.selector": self.workload["spec"]["selector"]["matchLabels"]}
        for budget in self.kind("PodDisruptionBudget"):
            selected["PodDisruptionBudget.selector"] = budget["spec"].get("selector", {}).get("matchLabels", {})
        for service in self.kind("Service"):
            selected["Service.selector"] = service["spec"].get("selector", {})
        for spread in self.pod.get("topologySpreadConstraints", []):
            selected["topologySpreadConstraints.labelSelector"] = spread["labelSelector"]["matchLabels"]
        for where, labels in selected.items():
            self.hold(labels and labels.items() <= self.labels.items(), f"{where} {labels} does not select the pods, which have {self.labels}")
        self.hold(len(self.kind("PodDisruptionBudget")) == 1, "there is no PodDisruptionBudget")

    def check_program(self):
        port = int(self.pipeline["telemetry"]["listen"].rsplit(":", 1)[1])
        ports = {p["name"]: p["containerPort"] for p in self.container["ports"]}
        for probe, path in (("livenessProbe", "/livez"), ("startupProbe", "/livez"), ("readinessProbe", "/readyz")):
            asked = self.container[probe]["httpGet"]
            self.hold(asked["path"] == path, f"{probe} asks {asked['path']} and not {path}")
            self.hold(ports.get(asked["port"]) == port, f"{probe} asks port {asked['port']}, and the pipeline listens on {port}")
        self.hold(
            self.workload["spec"]["template"]["metadata"]["annotations"]["prometheus.io/port"] == str(port), f"Prometheus is not sent to port {port}"
        )
        needed = set(re.findall(r"(?<!\$)\$\{(\w+)\}", self.pipeline_text))
        self.hold(needed <= self.environment, f"the pipeline asks for {sorted(needed - self.environment)}, which the container has not")
        grace = self.pod["terminationGracePeriodSeconds"]
        self.hold(grace > DRAIN_LIMIT, f"a worker may take {DRAIN_LIMIT} s to stop, and is killed after {grace}")
        mounted = {m["mountPath"] for m in self.container["volumeMounts"]}
        self.hold(any(self.container["args"][-1].startswith(path) for path in mounted), "the pipeline's file is on no volume")
        for what in ("requests", "limits"):
            self.hold({"cpu", "memory"} <= set(self.container["resources"].get(what, {})), f"the container has no {what} of cpu and memory")

    def check_security(self):
        pod, container = self.pod["securityContext"], self.container["securityContext"]
        self.hold(pod.get("runAsNonRoot") is True and pod.get("runAsUser", 0) > 0, "pods may run as root")
        self.hold(pod.get("seccompProfile", {}).get("type") == "RuntimeDefault", "pods have no seccomp profile")
        self.hold(container.get("allowPrivilegeEscalation") is False, "privileges may be gained")
        self.hold(container.get("capabilities", {}).get("drop") == ["ALL"], "capabilities are not dropped")
        self.hold(container.get("readOnlyRootFilesystem") is True, "the root file system can be written to")
        self.hold(self.pod.get("automountServiceAccountToken") is False, "pods hold a token of Kubernetes that they have no use for")

    def check_scaling(self):
        static = "group.instance.id" in self.pipeline["source"]["kafka"].get("properties", {})
        scaled = self.kind("ScaledObject")
        self.hold(not (static and scaled), "static members are autoscaled")
        self.hold(static == (self.workload["kind"] == "StatefulSet"), f"static membership is {static} in a {self.workload['kind']}")
        for scaler in scaled:
            target = scaler["spec"]["scaleTargetRef"]["name"]
            self.hold(target == self.workload["metadata"]["name"], f"{target} is scaled, which is not there")
            self.hold("maxReplicaCount" in scaler["spec"], "nothing bounds the number of workers")
            self.hold("replicas" not in self.workload["spec"], "every apply would set the number of workers back")
            for trigger in scaler["spec"]["triggers"]:
                for key, variable in trigger["metadata"].items():
                    self.hold(not key.endswith("FromEnv") or variable in self.environment, f"the trigger reads {variable}, which the container has not")
                pairs = (("topicFromEnv", "topics"), ("consumerGroupFromEnv", "group"), ("bootstrapServersFromEnv", "brokers"))
                for key, field in pairs:
                    expected = self.pipeline["source"]["kafka"][field]
                    given = f"${{{trigger['metadata'].get(key)}}}"
                    self.hold(expected in (given, [given]), f"the trigger's {key} is {given}, and the pipeline's {field} {expected}")


def check_custom(documents, definition):
    """Documents of a custom resource against its definition, unknown fields refused, as the API server would under strict validation."""
    import jsonschema

    def close(schema):
        if isinstance(schema, dict):
            if "properties" in schema and "x-kubernetes-preserve-unknown-fields" not in schema:
                schema.setdefault("additionalProperties", False)
            for value in schema.values():
                close(value)

    kind, group = definition["spec"]["names"]["kind"], definition["spec"]["group"]
    mistakes = []
    for version in definition["spec"]["versions"]:
        schema = version["schema"]["openAPIV3Schema"]
        schema["properties"].pop("metadata", None)
        close(schema)
        for document in documents:
            if document["kind"] == kind and document["apiVersion"] == f"{group}/{version['name']}":
                body = {key: value for key, value in document.items() if key != "metadata"}
                validator = jsonschema.Draft202012Validator(schema)
                mistakes += [f"{kind}.{'.'.join(map(str, e.path))}: {e.message}" for e in validator.iter_errors(body)]
    return mistakes


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifests")
    parser.add_argument("--crd", action="append", default=[])
    options = parser.parse_args()
    with open(options.manifests) as file:
        documents = [document for document in yaml.safe_load_all(file) if document]
    manifests = Manifests(documents)
    for check in (manifests.check_selectors, manifests.check_program, manifests.check_security, manifests.check_scaling):
        check()
    mistakes = manifests.mistakes
    for path in options.crd:
        with open(path) as file:
            mistakes += check_custom(documents, yaml.safe_load(file))
    for mistake in mistakes:
        print(f"{options.manifests}: {mistake}", file=sys.stderr)
    return 1 if mistakes else 0


if __name__ == "__main__":
    sys.exit(main())
