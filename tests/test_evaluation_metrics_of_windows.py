"""Metrics of time, motion, networks and sets, each against an independent implementation."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from scipy import ndimage
from scipy.linalg import sqrtm

from rdvfi.compat import import_torchvision
from rdvfi.evaluation.evaluation_window import TrueMotion
from rdvfi.evaluation.metrics import WindowResult, create_metrics
from rdvfi.evaluation.metrics.cached_networks import NETWORK_FILES, NetworkFile
from rdvfi.evaluation.metrics.frechet_metrics import frechet_distance
from rdvfi.evaluation.metrics.metric import create_metric
from rdvfi.evaluation.metrics.temporal import flicker
from rdvfi.evaluation.metrics.true_motion import epe, path_error
from window_results import moving_frames, window_result


def test_flicker_is_the_second_difference_in_time() -> None:
    result = window_result(moving_frames(6))
    sequence, true = (s.numpy() for s in result.sequences)
    expected = 255 * np.abs(np.diff(sequence, 2, axis=0) - np.diff(true, 2, axis=0)).mean(axis=(1, 2, 3))
    assert create_metric("flicker").measure(result).values == pytest.approx(expected.tolist(), abs=1e-4)
    steady = moving_frames(6)
    assert flicker(steady + 0.1, steady).tolist() == pytest.approx([0.0] * 4, abs=1e-4)
    blinking = steady + 0.1 * (torch.arange(6) % 2).view(-1, 1, 1, 1)
    assert flicker(blinking, steady).tolist() == pytest.approx([0.4 * 255 / 2] * 4, rel=1e-3)


def dis(source: torch.Tensor, target: torch.Tensor) -> np.ndarray:
    """OpenCV's DIS flow, (h, w, 2)."""
    estimator = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    to_uint8 = [(255 * x).round().byte().permute(1, 2, 0).contiguous().numpy() for x in (source, target)]
    return estimator.calc(*(cv2.cvtColor(p, cv2.COLOR_RGB2GRAY) for p in to_uint8), None)


def test_warping_error_equals_its_formula() -> None:
    """The next frame along the true flow, by SciPy; flows count that lead back to within 1.5 pixels and a twentieth."""
    result = window_result(moving_frames(4), 0.1)
    sequence, true = result.sequences
    errors, counts = [], []
    for i in range(3):
        onward, back = dis(true[i], true[i + 1]), dis(true[i + 1], true[i])
        y, x = np.mgrid[:64, :80]
        place = np.stack((y + onward[..., 1], x + onward[..., 0]))

        def at(plane: np.ndarray, place: np.ndarray = place) -> np.ndarray:
            return ndimage.map_coordinates(plane, place, order=1, mode="nearest")

        inside = (place >= 0).all(0) & (place[0] <= 63) & (place[1] <= 79)
        missed = np.hypot(*(onward[..., c] + at(back[..., c]) for c in (0, 1)))
        seen = inside & (missed < 1.5 + 0.05 * np.hypot(onward[..., 0], onward[..., 1]))
        warped = np.stack([at(plane) for plane in sequence[i + 1].numpy()])
        errors.append(1000 * ((sequence[i].numpy() - warped) ** 2).mean(0)[seen].mean())
        counts.append(seen.sum())
    found = create_metric("warping-error").measure(result)
    assert found.values == pytest.approx(errors, rel=1e-2)
    assert found.weights == pytest.approx(counts, rel=1e-2)


def test_warping_error_is_small_for_motion_and_large_for_noise() -> None:
    metric = create_metric("warping-error")
    true, noisy = (
        np.average(s.values, weights=s.weights)
        for s in map(metric.measure, (window_result(moving_frames(), 0.0), window_result(moving_frames(), 0.1)))
    )
    difference = 1000 * (moving_frames()[1:] - moving_frames()[:-1]).square().mean().item()
    assert true < 0.1 * difference
    assert noisy > 5 * true


@pytest.mark.parametrize(("dx", "dy"), [(3.0, 0.0), (-1.5, 2.0)])
def test_errors_of_motion_of_a_known_error(dx: float, dy: float) -> None:
    """Flows that miss by a constant: EPE is its length; the point is drawn as far from its place."""
    true = torch.zeros(2, 2, 20, 24)
    true[:, 0] = 4.0
    error = torch.tensor([dx, dy]).view(1, 2, 1, 1)
    seen = torch.ones(2, 20, 24, dtype=torch.bool)
    length = float(np.hypot(dx, dy))
    assert epe(true + error, true, seen).tolist() == pytest.approx([length] * 2)
    assert path_error(true + error, true, seen).tolist() == pytest.approx([length] * 2, abs=1e-4)
    seen[:, :, 10:] = False
    true[..., 10:] += 50.0
    exact = torch.zeros_like(true)
    exact[:, 0] = 4.0
    assert epe(exact, true, seen).tolist() == pytest.approx([0.0, 0.0], abs=1e-9)


def test_errors_of_motion_are_means_over_both_ends() -> None:
    flows = torch.zeros(1, 2, 2, 64, 80)
    motion = TrueMotion(flows[0] + 1.0, flows[0], torch.ones(2, 2, 64, 80, dtype=torch.bool))
    result = window_result(moving_frames(), compute_motion=lambda: motion)
    result = WindowResult(result.window, result.frames, (flows, flows))
    assert create_metric("epe").measure(result).values == pytest.approx([2**0.5 / 2] * 2)
    with pytest.raises(ValueError, match="needs the flows of the method"):
        create_metric("epe").measure(window_result(moving_frames()))


def test_the_distance_of_sets_is_frechets() -> None:
    rng = np.random.default_rng(0)
    one, two = rng.normal(size=(200, 6)), 0.5 + rng.normal(size=(180, 6)) @ rng.normal(size=(6, 6))
    m, n = one.mean(0) - two.mean(0), (np.cov(one.T), np.cov(two.T))
    expected = m @ m + np.trace(n[0] + n[1] - 2 * sqrtm(n[0] @ n[1]).real)
    assert frechet_distance(one, two) == pytest.approx(expected, rel=1e-8)
    import_torchvision()
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

    theirs = [fid_features_to_statistics(torch.from_numpy(x)) for x in (one, two)]
    published = fid_statistics_to_metric(*theirs, verbose=False)["frechet_inception_distance"]
    assert frechet_distance(one, two) == pytest.approx(published, rel=1e-6)
    assert frechet_distance(one, one) == pytest.approx(0.0, abs=1e-6)
    with pytest.raises(ValueError, match="at least 2 members in each; got 1 and 200"):
        frechet_distance(one[:1], one)


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Path]:
    """An empty cache of networks."""
    before = torch.hub.get_dir()
    torch.hub.set_dir(str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    yield tmp_path / "checkpoints"
    torch.hub.set_dir(before)


NETWORKED = ("lpips-alex", "lpips-vgg", "flolpips", "fid", "fvd")


def test_without_networks_the_metrics_say_so_and_the_rest_runs(cache: Path) -> None:
    found, missing = create_metrics(["psnr", *NETWORKED, "flicker"])
    assert set(found) == {"psnr", "flicker"}
    assert set(missing) == set(NETWORKED)
    for name, reason in missing.items():
        assert "its network is not in the cache" in reason, name
        assert "it is published at https://" in reason
        assert str(cache) in reason


def test_a_network_of_another_hash_is_refused(cache: Path) -> None:
    for file in NETWORK_FILES.values():
        (cache / file.names[0]).write_bytes(b"something else")
    _, missing = create_metrics(NETWORKED)
    assert set(missing) == set(NETWORKED)
    for reason in missing.values():
        assert "is not the published network: its SHA-256 is " + hashlib.sha256(b"something else").hexdigest() in reason


class _Means(torch.nn.Module):
    """Stands in for I3D, with its call: means of the clip in four parts."""

    def forward(self, x: torch.Tensor, rescale: bool, resize: bool, return_features: bool) -> torch.Tensor:
        assert not rescale
        assert not resize
        assert return_features
        return torch.stack([part.mean() for part in x.chunk(4, 2)])[None]


def test_fvd_reads_whole_sequences(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = cache / "i3d_torchscript.pt"
    torch.jit.save(torch.jit.script(_Means()), str(file))
    known = NetworkFile((file.name,), hashlib.sha256(file.read_bytes()).hexdigest(), "here")
    monkeypatch.setitem(NETWORK_FILES, "i3d", known)
    metric, features = create_metric("fvd", device="cpu"), ([], [])
    for step in (1, 2, 3):
        result = window_result(moving_frames(9, step=step), 0.1)
        assert metric.measure(result).values == ()
        for kept, sequence in zip(features, result.sequences, strict=True):
            small = torch.nn.functional.interpolate(sequence, (224, 224), mode="bilinear", align_corners=False)
            kept.append([part.mean().item() for part in (2 * small - 1).chunk(4)])
    assert metric.compute() == pytest.approx(frechet_distance(*map(np.array, features)), rel=1e-3, abs=1e-7)
    with pytest.raises(ValueError, match="at least 9 frames; got 4"):
        metric.measure(window_result(moving_frames(4)))


@pytest.mark.slow
@pytest.mark.parametrize("network", ["alex", "vgg"])
def test_lpips_equals_its_formula(network: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unit-normalised features, squared differences weighted per channel by the package's heads, summed over layers."""
    torchvision = import_torchvision()
    from rdvfi.evaluation.metrics import lpips_metrics

    torch.manual_seed(0)
    known = NETWORK_FILES[network]
    made_by = torchvision.models.alexnet if network == "alex" else torchvision.models.vgg16
    torch.save(made_by(weights=None).state_dict(), cache / known.names[0])
    digest = hashlib.sha256((cache / known.names[0]).read_bytes()).hexdigest()
    monkeypatch.setitem(NETWORK_FILES, network, NetworkFile(known.names, digest, "here"))
    lpips_metrics.load_lpips.cache_clear()
    result, metric = window_result(moving_frames()), create_metric(f"lpips-{network}")
    shift, scale = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
    values = 0.0
    with torch.no_grad():
        inputs = [(2 * x - 1 - shift.view(1, 3, 1, 1)) / scale.view(1, 3, 1, 1) for x in (result.frames, result.truth)]
        layers = [metric.distance.net(x) for x in inputs]
        for a, b, head in zip(*layers, metric.distance.lins, strict=True):
            a, b = (x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10) for x in (a, b))
            small = (head.model[-1].weight * (a - b).square()).sum(1, keepdim=True)
            values += torch.nn.functional.interpolate(small, result.frames.shape[-2:], mode="bilinear").mean((1, 2, 3))
    assert metric.measure(result).values == pytest.approx(values.tolist(), rel=1e-4)
    if network == "alex":
        flo = create_metric("flolpips")
        assert flo.measure(window_result(moving_frames(), 0.0)).values == pytest.approx([0.0, 0.0], abs=1e-6)
        (sequence, true), maps, expected = result.sequences, metric.maps(result.frames, result.truth)[:, 0].numpy(), []
        for i in (1, 2):
            weight = np.hypot(*np.moveaxis(dis(sequence[i], sequence[i + 1]) - dis(true[i], true[i + 1]), -1, 0))
            expected.append((weight * maps[i - 1]).sum() / weight.sum())
        assert flo.measure(result).values == pytest.approx(expected, rel=1e-4)
    lpips_metrics.load_lpips.cache_clear()


@pytest.mark.slow
def test_fid_equals_the_package(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import_torchvision()
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3 as Inception

    import_torchvision()
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

    torch.manual_seed(0)
    file = cache / NETWORK_FILES["inception"].names[0]
    torch.save({}, file)
    with monkeypatch.context() as patched:
        patched.setattr(Inception, "load_state_dict", lambda self, state: None)
        fresh = Inception("x", ["2048"], feature_extractor_weights_path=str(file))
    torch.save(fresh.state_dict(), file)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    monkeypatch.setitem(NETWORK_FILES, "inception", NetworkFile((file.name,), digest, "here"))
    metric, pairs = create_metric("fid", device="cpu"), [window_result(moving_frames(4, step=step)) for step in (1, 2)]
    for result in pairs:
        metric.measure(result)
    statistics = []
    for side in ("frames", "truth"):
        to_uint8 = torch.cat([(255 * getattr(result, side)).round().byte() for result in pairs])
        with torch.no_grad():
            statistics.append(fid_features_to_statistics(fresh.eval()(to_uint8)[0]))
    expected = fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]
    assert metric.compute() == pytest.approx(expected, rel=1e-3, abs=1e-6)
