"""Renders the Helm chart as Helm does, and checks what comes out against Kubernetes' own schemas.

    python3 chart.py CHART < CASES
    python3 chart.py --plain CHART

The second prints `deploy/kubernetes/leakwatch.yaml`: the chart with the values that it comes with. CASES is JSON: [{"values": {...}, "versions": ["1.30", ...]}, ...]. The answer is JSON, one object for each case:
`text` (the manifests as Helm writes them), `documents` (parsed), `problems` (of `helm lint --strict` and of the schemas).
Helm is its own SDK, from PyPI's helm-python-sdk; the schemas are those of kubernetes-validate.
"""

import json
import sys

import helm_python
import kubernetes_validate
import yaml

RELEASE = "leakwatch"
# Objects of the Prometheus operator: Kubernetes itself has no schema of them.
FOREIGN = {"ServiceMonitor"}
WARNING = 2
PLAIN = """\
# leakwatch on each node of a cluster, for those who do without Helm: `cargo xtask manifests` renders it from deploy/helm.
# Put the image of your registry in its place; docs/deploy.md says what the rest is for.
---
apiVersion: v1
kind: Namespace
metadata:
  name: leakwatch
  labels:
    # It sees the node's processes and two of its folders, which no other level allows.
    pod-security.kubernetes.io/enforce: privileged
"""


def problems(path, case, documents):
    report = helm_python.lint(path, case["values"], strict=True)
    for message in report["messages"]:
        if message["severity"] >= WARNING:
            yield f"lint: {message['path']}: {message['error']}"
    for version in case["versions"]:
        for document in documents:
            if document["kind"] in FOREIGN:
                continue
            try:
                kubernetes_validate.validate(document, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                where = "/".join(str(step) for step in error.path)
                yield f"Kubernetes {version}: {document['kind']}: {where}: {error.message}"


def render(path, case):
    try:
        rendered = helm_python.Chart.load(path).render(case["values"], name=RELEASE, namespace=RELEASE)
    except helm_python.HelmError as error:
        return {"text": "", "documents": [], "problems": [f"render: {error}"]}
    manifests = [text.strip() for name, text in sorted(rendered.items()) if name.endswith(".yaml") and text.strip()]
    documents = [document for text in manifests for document in yaml.safe_load_all(text)]
    return {
        "text": "".join(f"---\n{text}\n" for text in manifests),
        "documents": documents,
        "problems": list(problems(path, case, documents)),
    }


if __name__ == "__main__":
    if sys.argv[1] == "--plain":
        rendered = render(sys.argv[2], {"values": {}, "versions": []})
        if rendered["problems"]:
            sys.exit("\n".join(rendered["problems"]))
        sys.stdout.write(PLAIN + rendered["text"])
        sys.exit()
    json.dump([render(sys.argv[1], case) for case in json.load(sys.stdin)], sys.stdout)
