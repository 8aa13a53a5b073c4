from pipelines.preprocess.registry import CHOICES as CHOICES
from pipelines.preprocess.registry import NETWORK_PREPROCESSORS as NETWORK_PREPROCESSORS
from pipelines.preprocess.registry import PREPROCESSORS as PREPROCESSORS
from pipelines.preprocess.registry import Preprocessor as Preprocessor
from pipelines.preprocess.registry import Threshold as Threshold
