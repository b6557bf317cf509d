"""A pretrained text encoder that does not learn: where its weights are, and the vectors it gives.

A fold's model names the weights by their digest, because every fold reads the same; a release
carries them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from loopline.errors import IntegrityError
from loopline.models.base import FitContext, Floats
from loopline.models.encoder import Arrays
from loopline.models.pretrained import blank_network, find_pretrained, weights_digest
from loopline.models.text_encoder import TextEncoder

if TYPE_CHECKING:
    from loopline.nets.text import Embedder


@dataclass(frozen=True)
class FrozenText:
    """A text encoder with its frozen network.

    Args:
        encoder: makes the tokens.
        name: of the pretrained model, as the settings say it.
        digest: of its weights file.
        whole: whether the weights are saved with the model that uses it.
        weights: the saved weights; None where they come from where `name` says.
    """

    encoder: TextEncoder
    name: str
    digest: str
    whole: bool
    weights: Path | None = None

    @cached_property
    def embedder(self) -> Embedder:
        """The network, from the saved weights or from where the fit had it.

        Raises:
            IntegrityError: these are not the weights of the fit.
        """
        if self.weights is None:
            if weights_digest(self.name) != self.digest:
                raise IntegrityError(
                    f"This model was fitted on other weights of `model: {self.name}` (digest "
                    f"{self.digest[:12]}) than are there now. Fit it again, or restore them."
                )
            return embedder(self.name)
        from safetensors.torch import load_file as load_tensors

        from loopline.nets.text import Embedder

        network = blank_network(self.encoder.config)
        try:
            network.load_state_dict(load_tensors(self.weights))
        except (RuntimeError, SafetensorError, OSError) as error:
            raise IntegrityError(
                f"{self.weights} does not hold the weights of this text encoder: "
                f"{str(error).splitlines()[0]}"
            ) from error
        return Embedder(network)

    def quicken(self) -> None:
        """Let a graph compute the vectors, where the weights are this model's own."""
        from loopline.nets.text_graph import graph_encoder

        if self.weights is not None:
            found = graph_encoder(self.embedder.backbone, self.encoder.config)
            if found is not None:
                self.embedder.backbone = found

    def vectors(self, arrays: Arrays, *, steady: bool) -> Floats:
        """One vector a row of encoded texts, shape (rows, hidden); see `Embedder.rows`."""
        settings = self.encoder.settings
        return self.embedder.rows(arrays, settings.padding, pooling=settings.pooling, steady=steady)

    @property
    def elsewhere_bytes(self) -> int:
        """Bytes of the weights where a saved model does not carry them, else 0."""
        if self.whole:
            return 0
        return sum(map(_num_bytes, self.embedder.backbone.state_dict().values()))

    def save_weights(self, path: Path) -> None:
        """Write the weights, where the saved model is to carry them."""
        from safetensors.torch import save_file as save_tensors

        if self.whole:
            state = self.embedder.backbone.state_dict()
            save_tensors({name: value.cpu().contiguous() for name, value in state.items()}, path)


def embedder(name: str) -> Embedder:
    """The frozen encoder of a name; loaded once a process, so that folds share what they embed."""
    return _embedder(name, weights_digest(name))


@lru_cache(maxsize=2)
def _embedder(name: str, digest: str) -> Embedder:
    from loopline.nets.text import Embedder

    del digest
    return Embedder(find_pretrained(name).load())


def embedded(
    frozen: Embedder, encoder: TextEncoder, arrays: Arrays, *, steady: bool, context: FitContext
) -> Floats:
    """The vectors of encoded rows, with progress told."""
    num_windows = arrays["windows"].size - 1
    with context.reporter.step("embed the texts", total=num_windows) as step:
        return frozen.rows(
            arrays,
            encoder.settings.padding,
            pooling=encoder.settings.pooling,
            steady=steady,
            tell=step.advance,
        )


def _num_bytes(tensor: Any) -> int:
    return int(tensor.numel() * tensor.element_size())
