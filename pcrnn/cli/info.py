"""The command `pcrnn info`: versions, devices and kernels."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Info:
    """Versions, devices and kernels."""


def run_info(command: Info) -> int:
    import torch

    from pcrnn import ops
    from pcrnn.training.train import versions

    for name, version in versions().items():
        print(f"{name:<9} {version}")
    print(f"threads   {torch.get_num_threads()}")
    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    print(f"devices   {', '.join(['cpu', *names])}")
    backend = getattr(ops, "backend", None)
    name, reason = backend() if backend else ("reference", "the plain torch arithmetic, the only one there is")
    print(f"ops       {name}: {reason}")
    return 0
