//! Module paths of transformers' classes. Parts are written with the released checkpoint's; transformers renames modules when it loads one.

use crate::loading::{Class, Names};

/// What loading needs to know of it.
pub(super) const TRANSFORMERS: Names = Names { class: Class::Transformers, path: of_transformers };

/// A part of a path, and what stands in its place.
type Change = (&'static str, &'static str);

/// Modules with another path, by the released one; the rest of a path changes as the third column says.
const MODULES: [(&str, &str, &[Change]); 11] = [
    ("model.sam_model", "model.vision_tower.sam_encoder", &SAM),
    ("model.vision_model", "model.vision_tower.vision_encoder", &CLIP),
    ("model.qwen2_model.model.model", "model.vision_tower.vision_encoder", &[]),
    ("model.qwen2_model", "model.vision_tower", &[]),
    // One linear layer stands in the projector's place.
    ("model.projector.layers", "model.multi_modal_projector", &[]),
    ("model.projector", "model.multi_modal_projector", &[]),
    ("model.embed_tokens", "model.language_model.embed_tokens", &[]),
    ("model.layers", "model.language_model.layers", &[]),
    ("model.norm", "model.language_model.norm", &[]),
    ("model.rotary_emb", "model.language_model.rotary_emb", &[]),
    ("model.features", "model.vision_tower", &[]),
];

const SAM: [Change; 10] = [
    (".blocks", ".layers"),
    (".norm1", ".layer_norm1"),
    (".norm2", ".layer_norm2"),
    (".patch_embed.proj", ".patch_embed.projection"),
    (".neck.0", ".neck.conv1"),
    (".neck.1", ".neck.layer_norm1"),
    (".neck.2", ".neck.conv2"),
    (".neck.3", ".neck.layer_norm2"),
    (".net_2", ".proj.conv1"),
    (".net_3", ".proj.conv2"),
];

/// Where the release has one projection, transformers has three: they lie in what is around them.
const CLIP: [Change; 2] = [(".transformer", ".encoder"), (".self_attn.qkv_proj", ".self_attn")];

/// The path in transformers' class of the module that the released checkpoint has at `path`.
fn of_transformers(path: &str) -> String {
    let inside = |(outer, renamed, changes): &(&str, &str, &[Change])| {
        let rest = path.strip_prefix(outer).filter(|rest| rest.is_empty() || rest.starts_with('.'))?;
        let rest = changes.iter().fold(rest.to_owned(), |rest, (from, to)| rest.replace(from, to));
        Some(format!("{renamed}{rest}"))
    };
    MODULES.iter().find_map(inside).unwrap_or_else(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::of_transformers;

    #[test]
    fn modules_are_called_as_transformers_calls_them() {
        for (released, theirs) in [
            ("model.sam_model", "model.vision_tower.sam_encoder"),
            ("model.sam_model.blocks.1.attn.proj", "model.vision_tower.sam_encoder.layers.1.attn.proj"),
            ("model.sam_model.blocks.10.norm2", "model.vision_tower.sam_encoder.layers.10.layer_norm2"),
            ("model.sam_model.neck.1", "model.vision_tower.sam_encoder.neck.layer_norm1"),
            ("model.sam_model.net_3", "model.vision_tower.sam_encoder.proj.conv2"),
            ("model.sam_model.proj", "model.vision_tower.sam_encoder.proj"),
            ("model.sam_model.patch_embed.proj", "model.vision_tower.sam_encoder.patch_embed.projection"),
            ("model.vision_model.transformer.layers.0.mlp", "model.vision_tower.vision_encoder.encoder.layers.0.mlp"),
            ("model.qwen2_model.model.model.norm", "model.vision_tower.vision_encoder.norm"),
            ("model.projector.layers", "model.multi_modal_projector"),
            ("model.layers.3.mlp.gate", "model.language_model.layers.3.mlp.gate"),
            ("model.layers_of_another", "model.layers_of_another"),
            ("lm_head", "lm_head"),
        ] {
            assert_eq!(of_transformers(released), theirs);
        }
    }
}
