//! Which of the model's systems a point belongs to, by the PyTorch module's path.

use std::fmt;

/// A system of the model, in execution order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum System {
    /// SAM ViT: `model.sam_model`.
    Sam,
    /// CLIP: `model.vision_model`.
    Clip,
    /// The encoder behind SAM in transformers' classes: `model.vision_tower.vision_encoder`.
    Encoder,
    /// The projector and the view separators: `model.projector`.
    Projector,
    /// Embeddings, layers and the last norm.
    Decoder,
    /// `lm_head` and the logits.
    Head,
    /// Anything else.
    Other,
}

/// Every system, in the order of the tables.
pub(crate) const ALL: [System; 7] =
    [System::Sam, System::Clip, System::Encoder, System::Projector, System::Decoder, System::Head, System::Other];

/// Module prefixes, each with its system. `model` itself ends in the decoder's last norm.
const PREFIXES: [(&str, System); 14] = [
    ("model.vision_tower.sam_encoder", System::Sam),
    ("model.vision_tower", System::Encoder),
    ("model.multi_modal_projector", System::Projector),
    ("model.language_model", System::Decoder),
    ("model.sam_model", System::Sam),
    ("model.vision_model", System::Clip),
    ("model.projector", System::Projector),
    ("model.image_newline", System::Projector),
    ("model.view_seperator", System::Projector),
    ("model.embed_tokens", System::Decoder),
    ("model.layers", System::Decoder),
    ("model.norm", System::Decoder),
    ("lm_head", System::Head),
    ("logits", System::Head),
];

impl System {
    /// The system that a module path belongs to.
    #[must_use]
    pub fn of(point: &str) -> Self {
        let within =
            |prefix: &str| point.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        let found = PREFIXES.iter().find(|(prefix, _)| within(prefix));
        match found {
            Some((_, system)) => *system,
            None if point == "model" => Self::Decoder,
            None => Self::Other,
        }
    }
}

impl fmt::Display for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Sam => "SAM",
            Self::Clip => "CLIP",
            Self::Encoder => "encoder",
            Self::Projector => "projector",
            Self::Decoder => "decoder",
            Self::Head => "head",
            Self::Other => "other",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_system_is_known_by_whole_path_components() {
        for (point, system) in [
            ("model.sam_model", System::Sam),
            ("model.sam_model.blocks.0.attn", System::Sam),
            ("model.sam_model2", System::Other),
            ("model.vision_model.pre_layrnorm", System::Clip),
            ("model.projector.layers", System::Projector),
            ("model.layers.1.mlp.gate", System::Decoder),
            ("model.norm", System::Decoder),
            ("model.normal", System::Other),
            ("model", System::Decoder),
            ("lm_head", System::Head),
            ("logits", System::Head),
            ("", System::Other),
        ] {
            assert_eq!(System::of(point), system, "{point}");
        }
    }
}
