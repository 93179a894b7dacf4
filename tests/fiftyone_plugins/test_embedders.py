"""Models by name, and their vectors beside those that the models' own libraries compute."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import open_clip
import pytest
import skimage.data
import timm
import torch
import torchvision
from PIL import Image
from timm.data.config import resolve_data_config
from timm.data.transforms_factory import create_transform

from fiftyone_plugins.embeddings.computing import compute_vectors
from fiftyone_plugins.embeddings.decoding import read_picture
from fiftyone_plugins.embeddings.embedders import find_lite0, load_embedder, load_text_embedder, parse_model
from fiftyone_plugins.embeddings.items import Item
from labels.errors import ItemError, LabelingError
from tests.fiftyone_plugins.tiny_clip import CONFIG, write_tiny_clip

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
TABBY_CATS = (281, 282, 285)


@pytest.fixture
def cat() -> Image.Image:
    """A photo of a cat, 451 x 300 pixels."""
    return Image.fromarray(skimage.data.chelsea())


def test_efficientnet_lite0_gives_what_its_classifier_would_have_classified(cat: Image.Image) -> None:
    embedder = load_embedder(parse_model(), device="cpu")

    (vector,) = embedder.embed([embedder.prepare(cat)])

    assert embedder.name == "efficientnet-lite0-57934424"
    assert vector.shape == (1280,)
    *_, weight, bias = torch.load(find_lite0(), weights_only=True).values()
    probabilities = torch.softmax(torch.from_numpy(vector) @ weight.T + bias, dim=0)
    assert probabilities[list(TABBY_CATS)].sum() > 0.8


def test_a_clip_gives_the_vectors_that_open_clip_gives(tmp_path: Path, cat: Image.Image) -> None:
    folder = write_tiny_clip(tmp_path / "clip")
    embedder = load_text_embedder(parse_model("open_clip:tiny", str(folder)), device="cpu")
    own, _, transform = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    own.eval()
    tokens = open_clip.get_tokenizer(f"local-dir:{folder}")(["a cat", "a dog"])
    with torch.inference_mode():
        picture = own.encode_image(transform(cat).unsqueeze(0)).numpy()
        texts = own.encode_text(tokens, normalize=True).numpy()

    assert np.allclose(embedder.embed([embedder.prepare(cat)]), picture, atol=1e-5)
    assert np.allclose(embedder.embed_texts(["a cat", "a dog"]), texts, atol=1e-6)
    assert embedder.scale == pytest.approx(float(own.logit_scale.detach().exp()))


def test_a_clip_is_loaded_from_its_architecture_and_a_file(tmp_path: Path, cat: Image.Image) -> None:
    folder = write_tiny_clip(tmp_path / "clip")
    (tmp_path / "tiny-for-tests.json").write_text(json.dumps(CONFIG["model_cfg"]))
    open_clip.add_model_config(tmp_path / "tiny-for-tests.json")
    file = folder / "open_clip_pytorch_model.bin"

    embedder = load_text_embedder(parse_model("open_clip:tiny-for-tests", str(file)), device="cpu")

    assert embedder.embed([embedder.prepare(cat)]).shape == (1, 32)


def test_a_model_of_timm_from_a_file_gives_what_timm_gives(tmp_path: Path, cat: Image.Image) -> None:
    own = timm.create_model("resnet10t", num_classes=7).eval()
    file = tmp_path / "resnet10t.pth"
    torch.save({"state_dict": {f"module.{name}": value for name, value in own.state_dict().items()}}, file)
    transform = create_transform(**resolve_data_config({}, model=own))
    with torch.inference_mode():
        expected = own.forward_head(own.forward_features(transform(cat).unsqueeze(0)), pre_logits=True).numpy()

    embedder = load_embedder(parse_model("timm:resnet10t", str(file)), device="cpu")

    assert np.allclose(embedder.embed([embedder.prepare(cat)]), expected, atol=1e-5)


def test_a_classifier_of_torchvision_from_a_file_gives_what_goes_into_its_last_layer(
    tmp_path: Path, cat: Image.Image
) -> None:
    own = torchvision.models.resnet18(num_classes=5).eval()
    file = tmp_path / "resnet18.pth"
    torch.save(own.state_dict(), file)
    seen: list[torch.Tensor] = []
    own.fc.register_forward_pre_hook(lambda _module, given: seen.append(given[0]))
    with torch.inference_mode():
        own(torchvision.models.ResNet18_Weights.DEFAULT.transforms()(cat).unsqueeze(0))

    embedder = load_embedder(parse_model("resnet18", str(file)), device="cpu")

    assert np.allclose(embedder.embed([embedder.prepare(cat)]), seen[0].numpy(), atol=1e-5)


def test_weights_name_the_model_by_their_content(tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    file.write_bytes(b"one")
    first = parse_model("timm:resnet10t", str(file)).name
    file.write_bytes(b"another")

    assert first == "resnet10t-7692c3ad"  # sha256sum of «one»
    assert parse_model("timm:resnet10t", str(file)).name != first


@pytest.mark.parametrize(
    ("model", "problem"),
    [
        ("mobilenet", "model 'mobilenet' is not known .*efficientnet-lite0, resnet18"),
        ("timm:", "model 'timm:' is not known"),
        ("open_clip:ViT-B-32", "name its weights as well"),
    ],
)
def test_a_model_that_is_not_known_is_told_with_those_that_are(model: str, problem: str) -> None:
    with pytest.raises(LabelingError, match=problem):
        parse_model(model)


@pytest.mark.parametrize(
    ("model", "problem"),
    [
        ("timm:resnet10x", r"timm has no model 'resnet10x' \(near: .*resnet10t"),
        ("torchvision:resnet19", "torchvision has no model 'resnet19'"),
        ("torchvision:resnet18@V9", r"has no weights 'V9' \(known: .*IMAGENET1K_V1"),
        ("torchvision:fasterrcnn_resnet50_fpn", "torchvision has no model 'fasterrcnn_resnet50_fpn'"),
        ("open_clip:ViT-B-99/openai", r"open_clip has no model 'ViT-B-99' \(near: .*ViT-B-"),
        ("open_clip:ViT-B-32/mine", r"has no weights 'mine' \(known: openai"),
    ],
)
def test_what_a_library_does_not_have_is_a_sentence(model: str, problem: str) -> None:
    with pytest.raises(LabelingError, match=problem):
        load_embedder(parse_model(model), device="cpu")


def test_a_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    class Harmful:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (print, ("ran",))

    file = tmp_path / "harmful.pth"
    torch.save({"weight": Harmful()}, file)
    with pytest.raises(LabelingError, match=r"cannot be loaded .*or take efficientnet-lite0"):
        load_embedder(parse_model("timm:resnet10t", str(file)), device="cpu")


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "other.pth"
    torch.save(timm.create_model("resnet10t").state_dict(), file)
    for model in ("timm:resnet14t", "efficientnet-lite0"):
        with pytest.raises(LabelingError, match=r"are not the weights of|are not those of"):
            load_embedder(parse_model(model, str(file)), device="cpu")


@pytest.mark.parametrize("model", ["clip", "open_clip:RN50/openai", "efficientnet-b0", "resnet18"])
def test_offline_a_model_whose_weights_are_not_here_is_refused_before_anything_is_asked_for(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("LABELLOOP_OFFLINE", "1")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))

    with pytest.raises(LabelingError, match=r"its weights are not here, and LABELLOOP_OFFLINE=1 fetches nothing; give"):
        load_embedder(parse_model(model), device="cpu")
    assert caplog.records == []


def test_weights_of_something_else_are_told_without_the_names_of_their_tensors(tmp_path: Path) -> None:
    file = tmp_path / "other.pth"
    torch.save(timm.create_model("resnet10t").state_dict(), file)
    write_tiny_clip(tmp_path / "clip")
    (tmp_path / "tiny-other.json").write_text(json.dumps(CONFIG["model_cfg"]), encoding="utf-8")
    open_clip.add_model_config(tmp_path / "tiny-other.json")

    with pytest.raises(LabelingError, match=r"^tiny-other-\w{8}: these are not the weights of this architecture; give"):
        load_embedder(parse_model("open_clip:tiny-other", str(file)), device="cpu")


def test_a_model_that_reads_no_text_says_so() -> None:
    with pytest.raises(LabelingError, match="reads no text: take a CLIP"):
        load_text_embedder(parse_model())


def test_a_device_that_is_not_there_is_told() -> None:
    with pytest.raises(LabelingError, match="device 'tpu': is not there"):
        load_embedder(parse_model(), device="tpu")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_a_photo_is_turned_as_its_exif_says(tmp_path: Path, suffix: str, orientation: int, cat: Image.Image) -> None:
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"cat{suffix}"
    cat.save(path, exif=exif, **({"quality": 95} if suffix == ".jpg" else {}))
    with Image.open(path) as opened:
        expected = np.asarray(ImageOps.exif_transpose(opened).convert("RGB"), dtype=np.int16)

    found = np.asarray(read_picture(path), dtype=np.int16)

    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 2


def test_a_large_jpeg_is_reduced_and_its_vector_is_nearly_the_same(tmp_path: Path, cat: Image.Image) -> None:
    large = tmp_path / "large.jpg"
    cat.resize((2706, 1800), Image.Resampling.BICUBIC).save(large, quality=95)
    assert read_picture(large, 224).size == (677, 450)
    embedder = load_embedder(parse_model(), device="cpu")
    whole, reduced = embedder.embed([embedder.prepare(read_picture(large, side)) for side in (None, embedder.side)])

    assert float(whole @ reduced / np.linalg.norm(whole) / np.linalg.norm(reduced)) > 0.99


@pytest.mark.parametrize("content", [b"", b"text", b"\xff\xd8\xff\xe0\x00\x10JFIF"])
def test_what_is_no_image_is_an_error_with_its_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.jpg"
    path.write_bytes(content)
    with pytest.raises(ItemError, match=r"broken\.jpg: cannot be read as an image"):
        read_picture(path)


def test_a_truncated_jpeg_is_an_error_too(tmp_path: Path, cat: Image.Image) -> None:
    path = tmp_path / "half.jpg"
    cat.save(path, quality=95)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ItemError, match=r"half\.jpg: cannot be read as an image"):
        read_picture(path)


class Counting:
    """An embedder that answers with the mean colour, and not at all for black."""

    name, side = "counting", 8

    def prepare(self, picture: Image.Image) -> np.ndarray:
        return np.asarray(picture, dtype=np.float32).mean(axis=(0, 1))

    def embed(self, prepared: list[np.ndarray]) -> np.ndarray:
        self.batches = [*getattr(self, "batches", []), len(prepared)]
        return np.stack(prepared)


def test_files_come_in_their_order_in_batches_and_what_gives_no_direction_is_told(tmp_path: Path) -> None:
    items = []
    for number in range(11):
        path = tmp_path / f"{number}.png"
        Image.new("RGB", (30, 20), (20 * number, 0, 0)).save(path)
        items.append(Item(f"{number}", str(path), (f"{number}",), ("",)))
    items.insert(5, Item("x", str(tmp_path / "missing.png"), ("x",), ("",)))
    embedder = Counting()

    found = list(compute_vectors(items, embedder, batch_size=4, threads=3))

    answers = {one.item.sample_id: one.vectors[0][0] if one.error is None else one.error.problem for one in found}
    assert "zero or not finite" in answers.pop("0")
    assert "No such file" in answers.pop("x")
    assert answers == {str(number): 20 * number for number in range(1, 11)}
    assert embedder.batches == [4, 4, 3]
