"""Names of Wan's parameters: the original repository's and diffusers'.

The networks are the same; names differ, and so does the order in which two of a block's norms are
numbered (the original counts cross-attention's last). Only whole parts of a name are replaced.
"""

_PREFIXES = {
    "time_embedding.0": "condition_embedder.time_embedder.linear_1",
    "time_embedding.2": "condition_embedder.time_embedder.linear_2",
    "text_embedding.0": "condition_embedder.text_embedder.linear_1",
    "text_embedding.2": "condition_embedder.text_embedder.linear_2",
    "time_projection.1": "condition_embedder.time_proj",
    "img_emb.proj.0": "condition_embedder.image_embedder.norm1",
    "img_emb.proj.1": "condition_embedder.image_embedder.ff.net.0.proj",
    "img_emb.proj.3": "condition_embedder.image_embedder.ff.net.2",
    "img_emb.proj.4": "condition_embedder.image_embedder.norm2",
    "head.head": "proj_out",
    "head.modulation": "scale_shift_table",
    "patch_embedding": "patch_embedding",
}
_IN_BLOCK = {
    "modulation": "scale_shift_table",
    "norm3": "norm2",
    "ffn.0": "ffn.net.0.proj",
    "ffn.2": "ffn.net.2",
}
_ATTENTION = {"self_attn": "attn1", "cross_attn": "attn2"}
_PROJECTIONS = {
    "q": "to_q",
    "k": "to_k",
    "v": "to_v",
    "o": "to_out.0",
    "k_img": "add_k_proj",
    "v_img": "add_v_proj",
    "norm_q": "norm_q",
    "norm_k": "norm_k",
    "norm_k_img": "norm_added_k",
}


def to_diffusers(name: str) -> str | None:
    """diffusers' name of a parameter or module of the original; None if it is not one.

    ``blocks.3.cross_attn.k_img.weight`` is ``blocks.3.attn2.add_k_proj.weight``.
    """
    for old, new in _PREFIXES.items():
        if name == old or name.startswith(f"{old}."):
            return new + name[len(old) :]
    parts = name.split(".")
    if len(parts) < 3 or parts[0] != "blocks" or not parts[1].isdigit():
        return None
    inside = _inside_block(".".join(parts[2:]))
    return None if inside is None else ".".join((*parts[:2], inside))


def _inside_block(name: str) -> str | None:
    for old, new in _IN_BLOCK.items():
        if name == old or name.startswith(f"{old}."):
            return new + name[len(old) :]
    attention, _, rest = name.partition(".")
    projection, dot, leaf = rest.partition(".")
    if attention not in _ATTENTION or projection not in _PROJECTIONS:
        return None
    return f"{_ATTENTION[attention]}.{_PROJECTIONS[projection]}{dot}{leaf}"
