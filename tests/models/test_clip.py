"""CLIP's image tower with its projection, and the classifier made of texts, against transformers' CLIP of both towers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import tiny_clip

from bench.cli.main import main
from bench.core.errors import UsageError
from bench.models import backbones, clip, static_cost, texts
from bench.models.families import build_view
from bench.models.method import attach, build
from bench.models.registry import load

transformers = pytest.importorskip("transformers")

IMAGES = torch.randn(6, 3, tiny_clip.SIZE, tiny_clip.SIZE, generator=torch.Generator().manual_seed(1))
SAID = texts.Texts(("cat", "dog", "an emu"), ("a photo of a {}.", "{} .", "a drawing of the {}."))
B32 = "vit_base_patch32_clip_quickgelu_224"


@pytest.fixture(scope="module")
def theirs():  # type: ignore[no-untyped-def]
    return tiny_clip.theirs(transformers)


@pytest.fixture
def ours(theirs, tmp_path: Path) -> clip.ClipVisual:  # type: ignore[no-untyped-def]
    model = tiny_clip.ours(3).eval()
    backbones._load(model, tiny_clip.write_weights(theirs, tmp_path / "clip.safetensors"), "tiny")
    return model


def encode(model, said: list[str]) -> torch.Tensor:  # type: ignore[no-untyped-def]
    tokens = tiny_clip.tokenizer(transformers)(said, padding=True, return_tensors="pt")
    return model.text_projection(model.text_model(**tokens).pooler_output)


@torch.no_grad()
def test_the_features_are_those_of_both_towers_shared_space(theirs, ours: clip.ClipVisual) -> None:  # type: ignore[no-untyped-def]
    expected = theirs.visual_projection(theirs.vision_model(IMAGES).pooler_output)
    found = ours.forward_head(ours.forward_features(IMAGES), pre_logits=True)
    assert found.shape == (6, tiny_clip.SHARED)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(ours(IMAGES), ours.head(found))


@torch.no_grad()
def test_the_head_of_texts_is_the_zero_shot_classifier(theirs, ours: clip.ClipVisual) -> None:  # type: ignore[no-untyped-def]
    one = texts.Texts(SAID.names, SAID.templates[:1])
    ours.head.weight.copy_(texts.classifier(lambda said: encode(theirs, list(said)), one))
    ours.head.bias.zero_()
    tokens = tiny_clip.tokenizer(transformers)(
        [f"a photo of a {name}." for name in SAID.names], padding=True, return_tensors="pt"
    )
    expected = theirs(pixel_values=IMAGES, **tokens).logits_per_image
    features = ours.forward_head(ours.forward_features(IMAGES), pre_logits=True)
    scaled = ours(IMAGES) / features.norm(dim=-1, keepdim=True) * theirs.logit_scale.exp()
    torch.testing.assert_close(scaled, expected, rtol=1e-4, atol=1e-4)
    assert torch.equal(ours(IMAGES).argmax(1), expected.argmax(1))


def test_a_class_is_the_mean_direction_of_its_texts() -> None:
    numbers = {text: torch.from_numpy(np.random.default_rng(len(text)).normal(size=5)) for name in SAID.names for text in (t.replace("{}", name) for t in SAID.templates)}  # fmt: skip
    found = texts.classifier(lambda said: torch.stack([3 * numbers[text] for text in said]), SAID)
    for row, name in zip(found.double().numpy(), SAID.names, strict=True):
        unit = [v / np.linalg.norm(v) for v in (numbers[t.replace("{}", name)].numpy() for t in SAID.templates)]
        mean = np.mean(unit, axis=0)
        np.testing.assert_allclose(row, mean / np.linalg.norm(mean), rtol=1e-5, atol=1e-6)


def test_clip_b32_has_elevaters_counts() -> None:
    """PEViT's README: full fine-tuning trains 87,878,739 with the mean head of 513 x 57.55."""
    full, probe = (build(load(name), {}, name) for name in ("full", "linear_probe"))
    counted = static_cost.count_params(full, B32 + clip.SUFFIX, 10)
    assert (counted.method, counted.head) == (87_849_216, 5130)
    assert static_cost.count_params(probe, B32 + clip.SUFFIX, 10).method == 0


def test_methods_see_a_vit_whose_projection_stays_frozen(ours: clip.ClipVisual) -> None:
    net = build_view(ours)
    attach(build(load("lora"), {}, "lora"), net)
    trained = net.trainable_parameters()
    assert net.family == "vit" and "head.weight" in trained
    assert not any("projection" in name for name in trained)
    assert backbones.weights_digest(net.model) != backbones.weights_digest(tiny_clip.ours(3))


@pytest.mark.parametrize("name", ["vit_base_patch16_224+projection", B32 + ".openai_ft_in1k+projection"])
def test_a_backbone_without_a_projection_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="no projection to texts"):
        backbones.create_empty(name)


def test_a_classifier_is_not_taken_for_a_projection() -> None:
    model = tiny_clip.ours(3)
    model.head.bias.data.fill_(1.0)
    with pytest.raises(UsageError, match="has a bias"):
        clip.keep_projection(model, 3, pretrained=True)


def test_the_command_makes_the_file_that_runs_read(
    theirs,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],  # type: ignore[no-untyped-def]
) -> None:
    theirs.save_pretrained(tmp_path / "clip")
    tiny_clip.tokenizer(transformers).save_pretrained(tmp_path / "clip")
    names = ", ".join(f'"{chr(97 + number) * 3}"' for number in range(10))
    (tmp_path / "said.toml").write_text(f'names = [{names}]\ntemplates = ["a {{}}.", "the {{}}"]\n')
    ask = ["data", "texts", "--dataset", "pocket/digits", "--backbone", "tiny+projection"]
    ask += ["--model", str(tmp_path / "clip"), "--data-root", str(tmp_path)]
    assert main([*ask, "--texts", str(tmp_path / "said.toml")]) == 0
    found = texts.read(tmp_path, "pocket/digits", "tiny+projection", 10, tiny_clip.SHARED)
    assert found.sha256 in capsys.readouterr().out
    said = texts.read_texts(tmp_path / "said.toml")
    with torch.no_grad():
        torch.testing.assert_close(
            found.weight, texts.classifier(lambda t: encode(theirs, list(t)), said), rtol=1e-4, atol=1e-5
        )
    (tmp_path / "few.toml").write_text('names = ["a"]\ntemplates = ["a {}."]\n')
    assert main([*ask, "--texts", str(tmp_path / "few.toml")]) == 2
    assert "names 1 classes, pocket/digits has 10" in capsys.readouterr().err


def test_a_text_that_is_longer_than_the_tower_reads_is_refused_and_not_cut(theirs, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    theirs.save_pretrained(tmp_path)
    tiny_clip.tokenizer(transformers).save_pretrained(tmp_path)
    found = texts.transformers_encoder(str(tmp_path))
    limit = theirs.config.text_config.max_position_embeddings - 2  # a start and an end
    assert found(["a" * limit, "b"]).shape == (2, tiny_clip.SHARED)
    with pytest.raises(UsageError, match=rf"'{'a' * (limit + 1)}' has {limit + 3} tokens, and .* reads {limit + 2}"):
        found(["b", "a" * (limit + 1)])


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('names = []\ntemplates = ["{}"]', "must not be empty"),
        ('names = ["a"]\ntemplates = ["a photo"]', "needs one {}"),
        ('names = ["a"]', "templates"),
    ],
)
def test_a_wrong_file_of_texts_is_refused(tmp_path: Path, text: str, fault: str) -> None:
    (tmp_path / "t.toml").write_text(text)
    with pytest.raises(UsageError, match=fault):
        texts.read_texts(tmp_path / "t.toml")


def test_features_that_are_not_there_or_of_another_size_are_told_with_the_command(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="bench data texts --dataset a/b"):
        texts.read(tmp_path, "a/b", "x", 3)
    texts.write(texts.place(tmp_path, "a/b", "x"), torch.eye(3, 5), SAID, "m")
    assert torch.equal(texts.read(tmp_path, "a/b", "x", 3, 5).weight, torch.eye(3, 5))
    for classes, width in ((4, 5), (3, 6)):
        with pytest.raises(UsageError, match="has 3 classes of 5 features"):
            texts.read(tmp_path, "a/b", "x", classes, width)
    texts.place(tmp_path, "a/b", "x").write_bytes(b"no")
    with pytest.raises(UsageError, match="no file of text features"):
        texts.read(tmp_path, "a/b", "x", 3)
