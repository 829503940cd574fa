"""Complete diffusion pipelines with tiny random weights, built offline, saved as folders that load as usual."""

import importlib
import json
import tempfile
from pathlib import Path
from typing import Any

WORDS = ("a", "photo", "of", "the", "cat", "dog", "crane", "red", "boat")
SIDE = 32
"""Side of the pictures that the text and variation pipelines make of themselves."""


def stable_diffusion(folder: Path, *, threshold: float = 1.0) -> Path:
    """Save a StableDiffusionPipeline; its safety checker flags pictures whose cosine is above `threshold`."""
    diffusers = _library()
    pipe = diffusers.StableDiffusionPipeline(
        **_latent(), tokenizer=tokenizer(), text_encoder=_text_encoder(),
        safety_checker=_safety_checker(threshold), feature_extractor=_image_processor(), scheduler=_scheduler(),
    )  # fmt: skip
    pipe.save_pretrained(folder)
    return folder


def stable_diffusion_xl(folder: Path) -> Path:
    """Save a StableDiffusionXLPipeline: two tokenizers and text encoders, no safety checker."""
    diffusers = _library()
    words = tokenizer()
    pipe = diffusers.StableDiffusionXLPipeline(
        **_latent(
            cross_attention_dim=32, addition_embed_type="text_time", addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=6 * 8 + 16,
        ),
        tokenizer=words, tokenizer_2=words, text_encoder=_text_encoder(), text_encoder_2=_text_encoder(projected=True),
        scheduler=diffusers.EulerDiscreteScheduler(timestep_spacing="leading", **_NOISE),
        add_watermarker=False,
    )  # fmt: skip
    pipe.save_pretrained(folder)
    return folder


def latent_consistency(folder: Path) -> Path:
    """Save a LatentConsistencyModelPipeline, which makes a picture in four steps."""
    diffusers = _library()
    pipe = diffusers.LatentConsistencyModelPipeline(
        **_latent(time_cond_proj_dim=8), tokenizer=tokenizer(), text_encoder=_text_encoder(),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
        scheduler=diffusers.LCMScheduler(clip_sample=False, **_NOISE),
    )  # fmt: skip
    pipe.save_pretrained(folder)
    return folder


def image_variation(folder: Path) -> Path:
    """Save a StableDiffusionImageVariationPipeline."""
    diffusers = _library()
    pipe = diffusers.StableDiffusionImageVariationPipeline(
        **_latent(), image_encoder=_image_encoder(), feature_extractor=_image_processor(),
        safety_checker=_safety_checker(1.0), scheduler=_scheduler(),
    )  # fmt: skip
    pipe.save_pretrained(folder)
    return folder


def unclip(folder: Path) -> Path:
    """Save a StableUnCLIPImg2ImgPipeline: variations from a noised image embedding."""
    diffusers = _library()
    from diffusers.pipelines.stable_diffusion.stable_unclip_image_normalizer import StableUnCLIPImageNormalizer

    pipe = diffusers.StableUnCLIPImg2ImgPipeline(
        **_latent(class_embed_type="projection", projection_class_embeddings_input_dim=2 * 16),
        tokenizer=tokenizer(), text_encoder=_text_encoder(), image_encoder=_image_encoder(),
        feature_extractor=_image_processor(), image_normalizer=StableUnCLIPImageNormalizer(16),
        image_noising_scheduler=diffusers.DDPMScheduler(), scheduler=_scheduler(),
    )  # fmt: skip
    pipe.save_pretrained(folder)
    return folder


def dit(folder: Path) -> Path:
    """Save a DiTPipeline of 1000 classes and a null class, of which four have names; "crane" names two of them."""
    import torch

    diffusers = _library()

    torch.manual_seed(0)
    transformer = diffusers.DiTTransformer2DModel(
        num_attention_heads=2, attention_head_dim=8, in_channels=4, out_channels=8, num_layers=2, sample_size=16,
        patch_size=4, num_embeds_ada_norm=1000, norm_num_groups=4,
    )  # fmt: skip
    pipe = diffusers.DiTPipeline(transformer=transformer, vae=_vae(), scheduler=diffusers.DDIMScheduler())
    pipe.save_pretrained(folder)
    index = folder / "model_index.json"
    names = {"0": "tench, Tinca tinca", "1": "goldfish", "134": "crane, wading bird", "517": "crane, machine"}
    index.write_text(json.dumps({**json.loads(index.read_text()), "id2label": names}))
    return folder


def _library() -> Any:
    return importlib.import_module("diffusers")


def tokenizer() -> Any:
    """Return a CLIP tokenizer of 16 tokens a prompt: `WORDS` are one token each, other words one a letter."""
    from transformers import CLIPTokenizer

    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)] + [",", "."]
    merges: list[tuple[str, str]] = []
    for word in WORDS:
        parts = [*word[:-1], f"{word[-1]}</w>"]
        while len(parts) > 1:
            merges.append((parts[0], parts[1]))
            parts[:2] = ["".join(parts[:2])]
    pieces = [*letters, *(f"{letter}</w>" for letter in letters), *("".join(merge) for merge in merges)]
    pieces = [*dict.fromkeys(pieces), "<|startoftext|>", "<|endoftext|>"]
    lines = [" ".join(merge) for merge in dict.fromkeys(merges)]
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "vocab.json").write_text(json.dumps({piece: number for number, piece in enumerate(pieces)}))
        Path(folder, "merges.txt").write_text("\n".join(["#version: 0.2", *lines]) + "\n")
        return CLIPTokenizer.from_pretrained(folder, model_max_length=16)


_NOISE: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def _scheduler() -> Any:
    diffusers = _library()
    return diffusers.PNDMScheduler(skip_prk_steps=True, steps_offset=1, **_NOISE)


def _vae() -> Any:
    import torch

    diffusers = _library()

    torch.manual_seed(1)
    return diffusers.AutoencoderKL(
        block_out_channels=(8, 16), down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2, latent_channels=4, norm_num_groups=4, sample_size=SIDE,
    )  # fmt: skip


def _latent(*, cross_attention_dim: int = 16, **special: Any) -> dict[str, Any]:
    """Return the VAE and the UNet."""
    import torch

    diffusers = _library()

    torch.manual_seed(2)
    unet = diffusers.UNet2DConditionModel(
        block_out_channels=(8, 16), layers_per_block=1, sample_size=SIDE // 2, norm_num_groups=4, attention_head_dim=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=cross_attention_dim, **special,
    )  # fmt: skip
    return {"vae": _vae(), "unet": unet}


def _text_encoder(*, projected: bool = False) -> Any:
    import torch
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    torch.manual_seed(3)
    words = tokenizer()
    config = CLIPTextConfig(
        vocab_size=len(words), bos_token_id=words.bos_token_id, eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id, hidden_size=16, intermediate_size=16, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=16, projection_dim=16,
    )  # fmt: skip
    return (CLIPTextModelWithProjection if projected else CLIPTextModel)(config).eval()


def _vision_config() -> dict[str, Any]:
    return {
        "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
        "image_size": SIDE, "patch_size": 8, "projection_dim": 16,
    }  # fmt: skip


def _image_encoder() -> Any:
    import torch
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    torch.manual_seed(4)
    return CLIPVisionModelWithProjection(CLIPVisionConfig(**_vision_config())).eval()


def _image_processor() -> Any:
    from transformers import CLIPImageProcessor

    return CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE})


def _safety_checker(threshold: float) -> Any:
    import torch
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
    from transformers import CLIPConfig

    torch.manual_seed(5)
    checker = StableDiffusionSafetyChecker(CLIPConfig(vision_config=_vision_config(), projection_dim=16)).eval()
    torch.nn.init.normal_(checker.concept_embeds)
    torch.nn.init.constant_(checker.concept_embeds_weights, threshold)
    return checker
