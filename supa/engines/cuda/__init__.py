"""The engine for NVIDIA GPUs: the showers of the engine "cpu", bit for bit."""

from supa.engines.cuda.device import DeviceArray, Gpu, open_gpu
from supa.engines.cuda.walker import MAX_PARTICLES, Chunk, GpuMemoryError, Walker, fetch_chunk

__all__ = ["MAX_PARTICLES", "Chunk", "DeviceArray", "Gpu", "GpuMemoryError", "Walker", "fetch_chunk", "open_gpu"]
