"""mirl export, import, push: tickets to and from other programs and people."""

from pathlib import Path
from typing import Annotated, Literal

import tyro

from mirl.errors import MirlError


def export(
    ticket: tyro.conf.Positional[str],
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])],
    format: Literal["onnx", "safetensors"],
) -> None:
    """Write a ticket for other programs: ONNX for any batch and size, or safetensors, pruned weights exactly zero.

    ONNX is run in ONNX Runtime beside the ticket's own network first; where they differ, nothing is written.

    Args:
        ticket: Name of a shipped ticket, a .mirl file, or hf:owner/name[@revision] of the Hugging Face hub.
        out: File to write, named .onnx or .safetensors.
        format: onnx (input image, output restored, both batch x 3 x height x width, RGB in [0, 1]; the output is not
            clipped) or safetensors (every tensor, the network and the masks; `mirl import` reads it).
    """
    from mirl.ticket import load_ticket

    _check_name(out, f".{format}", f"an export to {format}")
    loaded = load_ticket(ticket)
    if format == "onnx":
        from mirl.engine.onnx_export import SIZES, export_onnx

        difference = export_onnx(loaded, out)
        sizes = ", ".join(f"{batch} of {width}x{height}" for batch, height, width in SIZES)
        print(f"{out}: {out.stat().st_size:,} bytes; largest difference to the ticket {difference:.1e} (images: {sizes})")
        return
    from mirl.ticket_tensors import write_tensors

    write_tensors(loaded, out)
    print(f"{out}: {out.stat().st_size:,} bytes")


def import_(
    checkpoint: tyro.conf.Positional[Path],
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])],
    values: Literal["float32", "float16"] = "float32",
) -> None:
    """Make a ticket of a PromptIR or MIR-L checkpoint, or of what `mirl export --format safetensors` wrote.

    A Lightning file or a plain state dict; the zeros of a pruned one become the ticket's masks. Nothing in the file is run.

    Args:
        checkpoint: .ckpt, .pth or .pt of torch.save, or .safetensors.
        out: The ticket to write, a .mirl file.
        values: How weights are stored. float32 gives the same image as the original network to 1e-5; float16 is half the
            size and rounds.
    """
    from mirl.network.checkpoint import import_checkpoint
    from mirl.ticket import write_ticket

    _check_name(out, ".mirl", "a ticket")
    imported = import_checkpoint(checkpoint)
    write_ticket(imported.ticket, out, values)
    ticket = imported.ticket
    print(f"{out}: {ticket.kept:,} of {ticket.total:,} parameters kept ({ticket.density:.2%}), {out.stat().st_size:,} bytes")
    if imported.unused:
        names = ", ".join(name.removesuffix(".weight") for name in imported.unused)
        print(f"dropped: {sum(imported.unused.values()):,} weights that the network never uses, in {names}")
    if imported.outside:
        some = ", ".join(list(imported.outside)[:5])
        print(f"left out: {len(imported.outside)} tensors that are not the network's, such as {some}")


def push(ticket: tyro.conf.Positional[str], repository: tyro.conf.Positional[str], private: bool = False) -> None:
    """Upload a ticket to the Hugging Face hub, with a model card made from its provenance and scores.

    Log in first (`hf auth login`, or HF_TOKEN). Others then use it as --ticket hf:owner/name.

    Args:
        ticket: Name of a shipped ticket, a .mirl file, or hf:owner/name[@revision] of the Hugging Face hub.
        repository: owner/name; made where there is none.
        private: Make a new repository private.
    """
    from mirl.publish import push as push_ticket
    from mirl.ticket import find_ticket

    print(push_ticket(find_ticket(ticket), repository, private))


def _check_name(out: Path, suffix: str, what: str) -> None:
    """Raise MirlError for an output that is not named as what it holds: programs go by names, and it may be the input."""
    if out.suffix != suffix:
        raise MirlError(f"{what} is a {suffix} file, found {out}; name it {out.stem or 'ticket'}{suffix}")
