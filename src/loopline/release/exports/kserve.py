"""KServe: an `InferenceService` that runs the image of the release, and what makes the image.

The service speaks the Open Inference Protocol v2, so KServe's clients and routes work as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from loopline.release.bundle import Release
from loopline.release.exports.base import Form, Subject
from loopline.release.exports.docker import (
    PORT,
    READY,
    TOKEN,
    USER_ID,
    image_name,
    plain_name,
    write_image,
)

FILE = "inference-service.yaml"
_BASE_MEMORY_MB = 256


class KServe(Form):
    """An InferenceService and the folder of its image."""

    name = "kserve"

    def write(self, subject: Subject, folder: Path) -> Sequence[str]:
        """See `Form.write`."""
        import yaml

        (folder / "image").mkdir()
        told = write_image(subject, folder / "image")
        service = inference_service(subject.release)
        (folder / FILE).write_text(yaml.safe_dump(service, sort_keys=False), encoding="utf-8")
        (folder / "README.md").write_text(_readme(subject.release), encoding="utf-8")
        return (told,)


def inference_service(release: Release) -> dict[str, Any]:
    """The InferenceService as plain data."""
    name = plain_name(release.name)
    size_mb = int(release.measured.get("size_bytes", 0)) // 2**20
    memory = f"{_BASE_MEMORY_MB + 4 * size_mb}Mi"
    container = {
        "name": "kserve-container",
        "image": image_name(release),
        "ports": [{"containerPort": PORT, "protocol": "TCP", "name": "http1"}],
        "env": [
            {
                "name": TOKEN,
                "valueFrom": {"secretKeyRef": {"name": f"{name}-token", "key": "token"}},
            }
        ],
        "readinessProbe": {"httpGet": {"path": READY, "port": PORT}},
        "resources": {
            "requests": {"cpu": "250m", "memory": memory},
            "limits": {"cpu": "2", "memory": f"{2 * (_BASE_MEMORY_MB + 4 * size_mb)}Mi"},
        },
        "volumeMounts": [{"name": "scratch", "mountPath": "/tmp"}],  # noqa: S108 - of the container
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER_ID,
            "readOnlyRootFilesystem": True,
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {
            "name": name,
            "annotations": {"loopline.release": release.id},
        },
        "spec": {
            "predictor": {
                "containers": [container],
                "volumes": [{"name": "scratch", "emptyDir": {"sizeLimit": "64Mi"}}],
            }
        },
    }


def _readme(release: Release) -> str:
    name = plain_name(release.name)
    return f"""# {release.name} on KServe

    docker build -t {image_name(release)} image
    kubectl create secret generic {name}-token --from-literal=token=$(openssl rand -hex 24)
    kubectl apply -f {FILE}

Push the image to your registry first and write its name into `{FILE}`. The service answers the Open
Inference Protocol v2 under `/v2/models`.
"""
