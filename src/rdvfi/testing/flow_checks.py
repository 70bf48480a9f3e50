"""The contract of a flow estimator."""

import torch

from rdvfi.interfaces import FlowEstimator, Reads
from rdvfi.testing.assertions import BATCH_TOLERANCE, CheckReport, assert_close, call_unchanged, check_field
from rdvfi.testing.known_motion import check_known_flow, needs_no_training
from rdvfi.testing.sample_inputs import smooth_noise


def check_flow(flow: FlowEstimator, *, channels: int | None = None, accurate: bool | None = None) -> None:
    """Check a flow estimator: shape and type of the flow, determinism, both directions, and known motion.

    Args:
        flow: The flow estimator to check.
        channels: Number of input channels; by default 3 for pixels, and for latents the declared number, or 16.
        accurate: Whether known motion is checked: translations by fractions of a pixel,
            and no motion between equal images. By default for estimators that are pretrained or have no parameters;
            give True for one that you have trained.
    """
    assert isinstance(flow.reads, Reads), f"reads must be a Reads, got {flow.reads!r}"
    if channels is None:
        channels = 3 if flow.reads is Reads.PIXELS else flow.latent_channels or 16
    for h, w in ((48, 64), (40, 24)):
        source, target = (smooth_noise(2, channels, h, w, seed=seed) for seed in (0, 1))
        if flow.reads is Reads.PIXELS:
            source, target = source.sigmoid(), target.sigmoid()
        estimate = call_unchanged(flow, source, target)
        assert estimate.shape == (2, 2, h, w), f"flow must be (n, 2, h, w), got {tuple(estimate.shape)}"
        check_field(estimate, "flow")
        assert torch.equal(estimate, flow(source, target)), "flow must repeat bit for bit"
        alone = flow(source[1:], target[1:])
        assert_close(alone, estimate[1:], tolerance=BATCH_TOLERANCE, law="a batch must not matter")
        onward, back = flow.both_ways(source, target)
        law = "both_ways must give what forward gives"
        assert_close(onward, estimate, tolerance=BATCH_TOLERANCE, law=law)
        assert_close(back, flow(target, source), tolerance=BATCH_TOLERANCE, law=law)
    report = CheckReport("check_flow", flow)
    report.passed(
        "shape, float32, finite", "arguments stay", "repeats", "a batch does not matter", "both ways as forward"
    )
    if needs_no_training(flow) if accurate is None else accurate:
        check_known_flow(flow, channels)
        report.passed("known motion to a quarter of a pixel: sign, order of x and y, no flow between equal pictures")
    else:
        report.skipped("known motion", "its weights are not declared as trained; give accurate=True if they are")
    report.print()
