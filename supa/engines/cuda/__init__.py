"""The engine for NVIDIA GPUs: the showers of the engine "cpu", bit for bit."""

from supa.engines.cuda.device import DeviceArray as DeviceArray
from supa.engines.cuda.device import Gpu as Gpu
from supa.engines.cuda.device import GpuMemoryError as GpuMemoryError
from supa.engines.cuda.device import open_gpu as open_gpu
from supa.engines.cuda.walker import MAX_PARTICLES as MAX_PARTICLES
from supa.engines.cuda.walker import Walker as Walker
from supa.engines.cuda.walker import fetch_chunk as fetch_chunk
