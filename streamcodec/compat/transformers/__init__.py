"""EnCodec as `transformers` (5.23) offers it: the same names, calls and results, computed by this package's engine.

`streamcodec/docs/transformers.md` lists every argument, and where one differs.
"""

from streamcodec.errors import MissingDependencyError

try:
    import torch  # noqa: F401
except ImportError as exc:
    raise MissingDependencyError("streamcodec.compat.transformers needs torch: pip install 'streamcodec[codec]'") from exc

from streamcodec.compat.transformers.batch import BatchFeature
from streamcodec.compat.transformers.config import EncodecConfig
from streamcodec.compat.transformers.features import EncodecFeatureExtractor
from streamcodec.compat.transformers.model import EncodecModel
from streamcodec.compat.transformers.outputs import EncodecDecoderOutput, EncodecEncoderOutput, EncodecOutput, ModelOutput

AutoProcessor = EncodecFeatureExtractor
"""What `transformers.AutoProcessor.from_pretrained` gives for an EnCodec model."""

__all__ = [
    "AutoProcessor",
    "BatchFeature",
    "EncodecConfig",
    "EncodecDecoderOutput",
    "EncodecEncoderOutput",
    "EncodecFeatureExtractor",
    "EncodecModel",
    "EncodecOutput",
    "ModelOutput",
]
