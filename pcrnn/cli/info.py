"""The command `pcrnn info`: versions, devices and kernels."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Info:
    """Versions, devices and kernels."""

    def run(self) -> int:
        """Print them; returns the exit code."""
        import torch

        from pcrnn import ops
        from pcrnn.streaming.availability import why_not_installed
        from pcrnn.version import versions

        for name, version in versions().items():
            print(f"{name:<9} {version}")
        print(f"threads   {torch.get_num_threads()}")
        names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        print(f"devices   {', '.join(['cpu', *names])}")
        backend, reason = ops.backend()
        print(f"ops       {backend}: {reason}")
        missing = why_not_installed()
        print(f"streams   {'compiled: numba' if missing is None else f'general: {missing}'}")
        return 0
