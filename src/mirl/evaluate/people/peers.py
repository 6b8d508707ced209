"""Classical denoisers beside the tickets, as one would use them without knowing what is in the picture.

A strength that fits all pictures was fixed on the development set (`bench/people_peers.py`, table in
`results/people_peers.json`), for the mean PSNR of its ten photographs. scikit-image, PyWavelets and OpenCV come with
mirl[bench]; restoring needs none of them.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mirl.errors import MirlError

Pixels = NDArray[np.float32]


@dataclass(frozen=True)
class Peer:
    """A denoiser `run(pixels, strength)`, float32 (h, w, 3) in [0, 1] to the same, and the `strength` that was fixed."""

    name: str
    title: str
    strength: float
    run: Callable[[Pixels, float], Pixels]


def _nlm(pixels: Pixels, strength: float) -> Pixels:
    """Non-local means (Buades et al. 2005), fast variant, patches of 5 in a neighbourhood of 13 pixels; h is `strength`."""
    from skimage.restoration import denoise_nl_means

    found = denoise_nl_means(pixels, patch_size=5, patch_distance=6, h=strength, fast_mode=True, channel_axis=-1)
    return np.asarray(found, np.float32)


def _nlm_estimated(pixels: Pixels, strength: float) -> Pixels:
    """The same with h = `strength` times the noise's deviation as estimated from wavelets (Donoho & Johnstone 1994).

    The factor 0.8 is that of scikit-image's example for the fast variant; it suits white noise.
    """
    from skimage.restoration import estimate_sigma

    sigma = float(estimate_sigma(pixels, channel_axis=-1, average_sigmas=True))
    return _nlm(pixels, strength * sigma) if sigma > 0 else pixels


def _opencv(pixels: Pixels, strength: float) -> Pixels:
    """OpenCV's fastNlMeansDenoisingColored, its usual windows of 7 and 21 pixels; h is `strength`, in levels, twice."""
    import cv2

    levels = np.rint(pixels * 255).astype(np.uint8)
    found: Any = cv2.fastNlMeansDenoisingColored(levels, None, strength, strength, 7, 21)
    return np.asarray(found, np.float32) / np.float32(255)


PEERS = {
    peer.name: peer
    for peer in (
        Peer("nlm", "scikit-image, non-local means", 0.02, _nlm),
        Peer("nlm-estimated", "scikit-image, non-local means by the estimated noise", 0.8, _nlm_estimated),
        Peer("opencv", "OpenCV, fastNlMeansDenoisingColored", 3.0, _opencv),
    )
}


def peer_named(name: str, strength: float | None = None) -> Callable[[Pixels], Pixels]:
    """Return the restorer of a peer, of another strength than the fixed one if given.

    Raises MirlError for an unknown one, and when its library is not installed.
    """
    if name not in PEERS:
        raise MirlError(f"unknown peer {name!r}; expected some of {', '.join(PEERS)}")
    peer = PEERS[name] if strength is None else replace(PEERS[name], strength=strength)
    try:
        peer.run(np.full((16, 16, 3), 0.5, np.float32), peer.strength)
    except ImportError as error:
        raise MirlError(f"the peer {name} does not run ({error}): pip install 'mirl[bench]'") from error
    return lambda pixels: peer.run(pixels, peer.strength)
