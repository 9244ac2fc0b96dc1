"""Every setting of a run: its schema, the rules between settings, files, help, and the command line."""

from adamas.config.schema import MEANING as MEANING
from adamas.config.schema import PARTS as PARTS
from adamas.config.schema import SIGMA_MIN as SIGMA_MIN
from adamas.config.schema import SIZE as SIZE
from adamas.config.schema import ActorCritic as ActorCritic
from adamas.config.schema import Atari as Atari
from adamas.config.schema import Checkpoint as Checkpoint
from adamas.config.schema import Collection as Collection
from adamas.config.schema import Config as Config
from adamas.config.schema import Denoiser as Denoiser
from adamas.config.schema import Evaluation as Evaluation
from adamas.config.schema import Network as Network
from adamas.config.schema import Optimization as Optimization
from adamas.config.schema import QNetwork as QNetwork
from adamas.config.schema import Replay as Replay
from adamas.config.schema import RewardEnd as RewardEnd
from adamas.config.schema import Sampler as Sampler
