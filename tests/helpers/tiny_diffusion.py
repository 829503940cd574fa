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


def dit(folder: Path, *, classes: int = 1000) -> Path:
    """Save a DiTPipeline of so many classes and a null class; four have names, and "crane" names two of them."""
    import torch

    diffusers = _library()

    torch.manual_seed(0)
    transformer = diffusers.DiTTransformer2DModel(
        num_attention_heads=2, attention_head_dim=8, in_channels=4, out_channels=8, num_layers=2, sample_size=16,
        patch_size=4, num_embeds_ada_norm=classes, norm_num_groups=4,
    )  # fmt: skip
    pipe = diffusers.DiTPipeline(transformer=transformer, vae=_vae(), scheduler=diffusers.DDIMScheduler())
    pipe.save_pretrained(folder)
    index = folder / "model_index.json"
    names = {"0": "tench, Tinca tinca", "1": "goldfish", "134": "crane, wading bird", "517": "crane, machine"}
    index.write_text(json.dumps({**json.loads(index.read_text()), "id2label": names}))
    return folder


def stable_diffusion_3(folder: Path) -> Path:
    """Save a StableDiffusion3Pipeline: a transformer, flow matching, two CLIP text encoders and a T5."""
    diffusers = _library()
    _seed()
    transformer = diffusers.SD3Transformer2DModel(
        sample_size=SIDE // 2, patch_size=2, in_channels=4, out_channels=4, num_layers=1, attention_head_dim=8,
        num_attention_heads=2, joint_attention_dim=32, caption_projection_dim=16, pooled_projection_dim=32,
        pos_embed_max_size=32,
    )  # fmt: skip
    words = tokenizer()
    pipe = diffusers.StableDiffusion3Pipeline(
        transformer=transformer, vae=_shifted_vae(), scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
        text_encoder=_text_encoder(projected=True), tokenizer=words, text_encoder_2=_text_encoder(projected=True),
        tokenizer_2=words, text_encoder_3=_t5(32), tokenizer_3=_t5_tokenizer(),
    )  # fmt: skip
    pipe.save_pretrained(folder)
    return folder


def flux(folder: Path) -> Path:
    """Save a FluxPipeline: packed latents, guidance as an input of the transformer, CLIP and T5."""
    diffusers = _library()
    _seed()
    transformer = diffusers.FluxTransformer2DModel(
        in_channels=16, num_layers=1, num_single_layers=0, attention_head_dim=16, num_attention_heads=1,
        joint_attention_dim=32, pooled_projection_dim=16, axes_dims_rope=(4, 4, 8), guidance_embeds=True,
    )  # fmt: skip
    pipe = diffusers.FluxPipeline(
        transformer=transformer, vae=_shifted_vae(), scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
        text_encoder=_text_encoder(), tokenizer=tokenizer(), text_encoder_2=_t5(32), tokenizer_2=_t5_tokenizer(),
    )  # fmt: skip
    pipe.save_pretrained(folder)
    return folder


def pixart_sigma(folder: Path) -> Path:
    """Save a PixArtSigmaPipeline: a transformer with cross-attention to a T5."""
    diffusers = _library()
    _seed()
    transformer = diffusers.PixArtTransformer2DModel(
        num_attention_heads=2, attention_head_dim=8, in_channels=4, out_channels=8, num_layers=1, norm_num_groups=4,
        cross_attention_dim=16, caption_channels=32, sample_size=SIDE // 2, patch_size=2,
        use_additional_conditions=False,
    )  # fmt: skip
    pipe = diffusers.PixArtSigmaPipeline(
        transformer=transformer, vae=_vae(), scheduler=diffusers.DPMSolverMultistepScheduler(**_NOISE),
        text_encoder=_t5(32), tokenizer=_t5_tokenizer(),
    )  # fmt: skip
    pipe.save_pretrained(folder)
    return folder


def sana(folder: Path) -> Path:
    """Save a SanaPipeline: linear attention, a deep-compression autoencoder, Gemma 2, and a solver of flow matching."""
    diffusers = _library()
    _seed()
    transformer = diffusers.SanaTransformer2DModel(
        in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=8, num_layers=1,
        num_cross_attention_heads=2, cross_attention_head_dim=8, cross_attention_dim=16, caption_channels=16,
        sample_size=SIDE // 2,
    )  # fmt: skip
    vae = diffusers.AutoencoderDC(
        latent_channels=4, attention_head_dim=2, encoder_block_out_channels=(8, 8), decoder_block_out_channels=(8, 8),
        encoder_layers_per_block=(1, 1), decoder_layers_per_block=(1, 1), encoder_qkv_multiscales=((), ()),
        decoder_qkv_multiscales=((), ()), encoder_block_types="ResBlock", decoder_block_types="ResBlock",
    )  # fmt: skip
    scheduler = diffusers.DPMSolverMultistepScheduler(
        use_flow_sigmas=True, prediction_type="flow_prediction", flow_shift=3.0
    )
    pipe = diffusers.SanaPipeline(
        transformer=transformer, vae=vae, scheduler=scheduler, text_encoder=_gemma(), tokenizer=_gemma_tokenizer()
    )
    pipe.save_pretrained(folder)
    return folder


def ddpm(folder: Path, *, channels: int = 3) -> Path:
    """Save a DDPMPipeline, which draws pixels of nothing in particular."""
    diffusers = _library()
    pipe = diffusers.DDPMPipeline(_pixel_unet(channels), diffusers.DDPMScheduler())
    pipe.save_pretrained(folder)
    return folder


def ddim(folder: Path) -> Path:
    """Save a DDIMPipeline of gray pictures."""
    diffusers = _library()
    pipe = diffusers.DDIMPipeline(_pixel_unet(1), diffusers.DDIMScheduler())
    pipe.save_pretrained(folder)
    return folder


def single_file(folder: Path, file: Path) -> Path:
    """Save UNet, VAE and text encoder of a tiny Stable Diffusion in one file, by the names of the original code."""
    from safetensors.torch import load_file, save_file

    unet, vae, text = (
        load_file(next((folder / part).glob("*.safetensors"))) for part in ("unet", "vae", "text_encoder")
    )
    tensors = {f"model.diffusion_model.{_original(name, _UNET, _RESNET)}": tensor for name, tensor in unet.items()}
    for name, tensor in vae.items():
        linear = ".attentions." in name and tensor.ndim == 2  # the original has convolutions of one pixel
        tensors[f"first_stage_model.{_original(name, _VAE, ())}"] = tensor[:, :, None, None] if linear else tensor
    prefix = "cond_stage_model.transformer.text_model."
    tensors |= {f"{prefix}{name.removeprefix('text_model.')}": tensor for name, tensor in text.items()}
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, file)
    return file


def lora(folder: Path, file: Path) -> Path:
    """Save LoRA weights of rank 2 for the query projections of the UNet in a folder."""
    import torch
    from safetensors.torch import load_file, save_file

    _seed()
    weights = load_file(next((folder / "unet").glob("*.safetensors")))
    tensors: dict[str, Any] = {}
    for name, tensor in weights.items():
        if name.endswith("attn2.to_q.weight"):
            layer = f"unet.{name.removesuffix('.weight')}"
            tensors[f"{layer}.lora_A.weight"] = torch.randn(2, tensor.shape[1])
            tensors[f"{layer}.lora_B.weight"] = torch.randn(tensor.shape[0], 2) * 5
    save_file(tensors, file)
    return file


_UNET = (
    ("time_embedding.linear_1", "time_embed.0"), ("time_embedding.linear_2", "time_embed.2"),
    ("conv_in", "input_blocks.0.0"), ("conv_norm_out", "out.0"), ("conv_out", "out.2"),
    ("down_blocks.0.resnets.0", "input_blocks.1.0"), ("down_blocks.0.downsamplers.0.conv", "input_blocks.2.0.op"),
    ("down_blocks.1.resnets.0", "input_blocks.3.0"), ("down_blocks.1.attentions.0", "input_blocks.3.1"),
    ("mid_block.resnets.0", "middle_block.0"), ("mid_block.attentions.0", "middle_block.1"),
    ("mid_block.resnets.1", "middle_block.2"),
    ("up_blocks.0.resnets.0", "output_blocks.0.0"), ("up_blocks.0.attentions.0", "output_blocks.0.1"),
    ("up_blocks.0.resnets.1", "output_blocks.1.0"), ("up_blocks.0.attentions.1", "output_blocks.1.1"),
    ("up_blocks.0.upsamplers.0", "output_blocks.1.2"),
    ("up_blocks.1.resnets.0", "output_blocks.2.0"), ("up_blocks.1.resnets.1", "output_blocks.3.0"),
)  # fmt: skip
"""Modules of the tiny UNet, and their names in the original code."""
_RESNET = (
    ("norm1", "in_layers.0"), ("conv1", "in_layers.2"), ("time_emb_proj", "emb_layers.1"), ("norm2", "out_layers.0"),
    ("conv2", "out_layers.3"), ("conv_shortcut", "skip_connection"),
)  # fmt: skip
_VAE = (
    ("encoder.down_blocks.", "encoder.down."), ("downsamplers.0.conv", "downsample.conv"),
    ("decoder.up_blocks.0.", "decoder.up.1."), ("decoder.up_blocks.1.", "decoder.up.0."),
    ("upsamplers.0.conv", "upsample.conv"), ("mid_block.resnets.0", "mid.block_1"),
    ("mid_block.resnets.1", "mid.block_2"), ("mid_block.attentions.0", "mid.attn_1"), ("resnets.", "block."),
    ("conv_norm_out", "norm_out"), ("conv_shortcut", "nin_shortcut"), ("group_norm", "norm"), ("to_q.", "q."),
    ("to_k.", "k."), ("to_v.", "v."), ("to_out.0.", "proj_out."),
)  # fmt: skip


def _original(name: str, modules: tuple[tuple[str, str], ...], resnet: tuple[tuple[str, str], ...]) -> str:
    """Return the name of a tensor in the original code of Stable Diffusion."""
    for ours, theirs in (*modules, *(resnet if ".resnets." in name else ())):
        name = name.replace(ours, theirs)
    return name


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


def _seed() -> None:
    import torch

    torch.manual_seed(6)


def _pixel_unet(channels: int) -> Any:
    _seed()
    return _library().UNet2DModel(
        sample_size=SIDE, in_channels=channels, out_channels=channels, layers_per_block=1, block_out_channels=(8, 8),
        norm_num_groups=4, down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2,
        attention_head_dim=4,
    )  # fmt: skip


def _shifted_vae() -> Any:
    vae = _vae()
    vae.register_to_config(shift_factor=0.1, scaling_factor=0.1)
    return vae


def _t5_tokenizer() -> Any:
    """Return a T5 tokenizer of 64 tokens a prompt: `WORDS` are one token each, other words one a letter."""
    from transformers import T5Tokenizer

    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -2.0)]
    letters = [(chr(code), -3.0) for code in range(ord("a"), ord("z") + 1)]
    words = [(f"\u2581{word}", -1.0) for word in WORDS]
    return T5Tokenizer(vocab=[*special, *words, *letters], extra_ids=0, model_max_length=64)


def _t5(width: int) -> Any:
    from transformers import T5Config, T5EncoderModel

    _seed()
    config = T5Config(
        vocab_size=64, d_model=width, d_kv=8, d_ff=16, num_layers=1, num_heads=2, relative_attention_num_buckets=8
    )
    return T5EncoderModel(config).eval()


def _gemma_tokenizer() -> Any:
    from transformers import GemmaTokenizer

    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "\u2581"]
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    return GemmaTokenizer(vocab={piece: number for number, piece in enumerate([*special, *letters])}, merges=[])


def _gemma() -> Any:
    from transformers import Gemma2Config, Gemma2Model

    _seed()
    config = Gemma2Config(
        vocab_size=64, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, head_dim=8, sliding_window=64,
    )  # fmt: skip
    return Gemma2Model(config).eval()
