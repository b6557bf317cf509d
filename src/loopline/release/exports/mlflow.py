"""MLflow: a model folder of the python_function flavour, without pickle.

`MLmodel` names `loopline.runtime.pyfunc` as its loader and the exported folder as its data, so
`mlflow.pyfunc.load_model` and `mlflow models serve` need no code from the folder.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from loopline.release.bundle import Release
from loopline.release.exports.base import Form, Subject
from loopline.release.exports.folder import requirements, write_runtime

_TYPES = {
    "integer": "double",
    "float": "double",
    "seconds": "double",
    "boolean": "boolean",
    "text": "string",
    "date": "string",
    "datetime": "string",
}


class MLflow(Form):
    """An MLflow model that `loopline.runtime` answers for."""

    name = "mlflow"

    def write(self, subject: Subject, folder: Path) -> Sequence[str]:
        """See `Form.write`."""
        import yaml

        release = subject.release
        (folder / "model").mkdir()
        told = write_runtime(subject, folder / "model")
        packages = release.model.portable().estimator.packages
        python = str(release.facts["environment"]["python"])
        needed = [*requirements(packages).splitlines(), "pandas", f"loopline=={_version(release)}"]
        files = {
            "MLmodel": ml_model(release, python),
            "python_env.yaml": {
                "python": python,
                "build_dependencies": ["pip"],
                "dependencies": ["-r requirements.txt"],
            },
        }
        for name, data in files.items():
            text = yaml.safe_dump(data, sort_keys=False, allow_unicode=True)
            (folder / name).write_text(text, encoding="utf-8")
        (folder / "requirements.txt").write_text("\n".join(needed) + "\n", encoding="utf-8")
        return (told,)


def ml_model(release: Release, python: str) -> dict[str, Any]:
    """The content of `MLmodel`."""
    inputs = [
        {
            "type": _TYPES[column.kind],
            "name": column.name,
            "required": column.missing == "error",
        }
        for column in release.contract.columns
    ]
    return {
        "flavors": {
            "python_function": {
                "data": "model",
                "env": {"virtualenv": "python_env.yaml"},
                "loader_module": "loopline.runtime.pyfunc",
                "python_version": python,
            }
        },
        "model_uuid": release.id.removeprefix("release-")[:32],
        "utc_time_created": f"{dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M:%S.%f}",
        "metadata": {"loopline_release": release.id},
        "signature": {"inputs": json.dumps(inputs, ensure_ascii=False), "outputs": None},
    }


def _version(release: Release) -> str:
    return str(release.facts["environment"]["loopline"])
