"""The contract of a flow estimator."""

import torch

from rdvfi.interfaces import FlowEstimator, Reads
from rdvfi.testing.assertions import BATCH_TOLERANCE, Account, assert_close, check_field, unchanged
from rdvfi.testing.known_motion import check_known_flow, estimates_at_once
from rdvfi.testing.sample_inputs import smooth_noise


def check_flow(flow: FlowEstimator, *, channels: int | None = None, accurate: bool | None = None) -> None:
    """Flow comes in float32 on the source's grid, repeats, agrees both ways, and is that of known motion.

    Args:
        flow: What is checked.
        channels: Channels of what it reads; by default 3 for pixels, and for latents those that it
            declares, or 16.
        accurate: Whether it is held to motion that is known: translations by fractions of a pixel,
            and none between equal pictures. By default if it is pretrained or has nothing to learn;
            say True for one that you have trained.
    """
    assert isinstance(flow.reads, Reads), f"reads must be a Reads, got {flow.reads!r}"
    if channels is None:
        channels = 3 if flow.reads is Reads.PIXELS else flow.latent_channels or 16
    for h, w in ((48, 64), (40, 24)):
        source, target = (smooth_noise(2, channels, h, w, seed=seed) for seed in (0, 1))
        if flow.reads is Reads.PIXELS:
            source, target = source.sigmoid(), target.sigmoid()
        found = unchanged(flow, source, target)
        assert found.shape == (2, 2, h, w), f"flow must be (n, 2, h, w), got {tuple(found.shape)}"
        check_field(found, "flow")
        assert torch.equal(found, flow(source, target)), "flow must repeat bit for bit"
        alone = flow(source[1:], target[1:])
        assert_close(alone, found[1:], tolerance=BATCH_TOLERANCE, law="a batch must not matter")
        onward, back = flow.both_ways(source, target)
        law = "both_ways must give what forward finds"
        assert_close(onward, found, tolerance=BATCH_TOLERANCE, law=law)
        assert_close(back, flow(target, source), tolerance=BATCH_TOLERANCE, law=law)
    said = Account("check_flow", flow)
    said.holds("shape, float32, finite", "arguments stay", "repeats", "a batch does not matter", "both ways as forward")
    if estimates_at_once(flow) if accurate is None else accurate:
        check_known_flow(flow, channels)
        said.holds("known motion to a quarter of a pixel: sign, order of x and y, no flow between equal pictures")
    else:
        said.skips("known motion", "it has weights that nobody says are trained; accurate=True once they are")
    said.tell()
