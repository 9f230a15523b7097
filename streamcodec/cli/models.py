"""`streamcodec models`: which models there are, and what they are like."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["models"]


def models(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Embedded names, files, folders or hub ids.")] = None,
) -> int:
    """List the embedded models, or describe the ones named."""
    from streamcodec.capabilities import Capabilities
    from streamcodec.model.checkpoint import codes_fingerprint, weights_fingerprint
    from streamcodec.model.encodec import macs_per_second
    from streamcodec.model.hub import embedded_models, load_model, locate

    for name in names or embedded_models():
        model, path = load_model(name), locate(name)
        config, usual = model.config, model.config.n_q_for()
        macs = macs_per_second(config, usual)
        size = sum(p.numel() for p in model.parameters()) / 1e6
        print(f"{name}")
        print(f"  fingerprint  {codes_fingerprint(model)}, of what its codes mean")
        print(f"  weights      {weights_fingerprint(model)}, of all of it")
        print(f"  file         {path}")
        print(
            f"  size         {size:.1f} M parameters, {config.num_quantizers} codebooks of {config.codebook_size} x {config.codebook_dim}"
        )
        print(
            f"  cost         {macs['encoder'] / 1e6:.0f} + {macs['decoder'] / 1e6:.0f} MMAC per second to encode and decode, "
            f"{macs['search'] / 1e6:.0f} to search the codebooks at {config.bandwidth_of(usual):g} kbps (beam {config.search_beam})"
        )
        can = Capabilities.of(config)
        print(f"  audio        {can.audio}, {config.frame_rate:g} frames per second, {config.pad_mode} padding")
        print(f"  streams      {can.streaming}")
        print(f"  bandwidths   {', '.join(f'{b:g}' for b in config.target_bandwidths)} kbps")
    if not names:
        print("others: a checkpoint file, a model folder, or a hub id such as facebook/encodec_24khz (see --help)")
    return 0
