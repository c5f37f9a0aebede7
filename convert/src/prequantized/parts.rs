//! The keys that quantized weights are stored under, and those beside them that no float weight needs.

use std::collections::BTreeMap;

use safetensors::Dtype;

use crate::checkpoint::TensorInfo;

/// Ends of keys that hold scales of activations, of the cache, or what only a quantized kernel needs; with what they are.
const OF_ACTIVATIONS: [(&str, &str); 12] = [
    ("input_scale", "the scale of a module's input: float weights take float inputs"),
    ("input_zero_point", "the zero point of a module's input: float weights take float inputs"),
    ("input_global_scale", "the scale of a module's input: float weights take float inputs"),
    ("activation_scale", "the scale of a module's input: float weights take float inputs"),
    ("activation_scale_ub", "the scale of a module's input: float weights take float inputs"),
    ("input_scale_ub", "the scale of a module's input: float weights take float inputs"),
    ("output_scale", "the scale of a module's output: float weights make float outputs"),
    ("q_scale", "the scale of a quantized query: MLX's attention takes floats"),
    ("k_scale", "the scale of a quantized cache: MLX tools scale their own"),
    ("v_scale", "the scale of a quantized cache: MLX tools scale their own"),
    ("kv_scale", "the scale of a quantized cache: MLX tools scale their own"),
    ("prob_scale", "the scale of quantized attention weights: MLX's attention takes floats"),
];

/// Why a key beside quantized weights may be left out.
pub fn left_out(key: &str) -> Option<&'static str> {
    let last = key.rsplit('.').next()?;
    let fits =
        |(end, _): &&(&str, &str)| last == *end || last.strip_suffix(end).is_some_and(|rest| rest.ends_with('_'));
    OF_ACTIVATIONS.iter().find(fits).map(|(_, reason)| *reason)
}

/// Whether numbers of this dtype may be codes.
pub fn is_code(dtype: Dtype) -> bool {
    is_fp8(dtype) || dtype == Dtype::I8
}

/// Whether it is an 8-bit float.
pub fn is_fp8(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::F8_E4M3 | Dtype::F8_E5M2 | Dtype::F8_E4M3FNUZ | Dtype::F8_E5M2FNUZ)
}

/// The key of the scales of `key`'s codes.
pub fn scale_key(key: &str, tensors: &BTreeMap<String, TensorInfo>) -> Option<String> {
    let beside = [format!("{key}_scale_inv"), format!("{key}_scale")];
    // DeepSeek's own names, before they were converted.
    let own = key.strip_suffix(".weight").map(|module| format!("{module}.scale"));
    beside.into_iter().chain(own).find(|scale| tensors.contains_key(scale))
}

/// A method that is not read, told by keys alone.
pub fn unread_method(tensors: &BTreeMap<String, TensorInfo>) -> Option<(&'static str, &String)> {
    const SIGNS: [(&str, &str); 16] = [
        (".quant_state.bitsandbytes__nf4", "bitsandbytes nf4"),
        (".quant_state.bitsandbytes__fp4", "bitsandbytes fp4"),
        (".absmax", "bitsandbytes 4 bit"),
        (".SCB", "bitsandbytes int8"),
        ("_blocks", "MXFP4"),
        (".weight_global_scale", "NVFP4"),
        (".weight_scale_2", "ModelOpt NVFP4"),
        (".bitmask", "compressed-tensors' sparse format"),
        (".codebooks", "AQLM"),
        (".W_q", "HQQ"),
        (".weight_packed._data", "quanto"),
        (".Qidxs", "QuIP#"),
        (".q_weight", "EXL2"),
        (".trellis", "EXL3"),
        (".weight._data", "quanto"),
        (".weight_scales", "EETQ"),
    ];
    let sign = |(key, info): (&'_ String, &TensorInfo), end: &str| {
        key.ends_with(end) && (end != "_blocks" || info.dtype == Dtype::U8)
    };
    SIGNS.iter().find_map(|(end, name)| {
        let found = tensors.iter().find(|(key, info)| sign((key, info), end));
        found.map(|(key, _)| (*name, key))
    })
}

/// Whether any tensor can only be a quantized weight: a matrix of small integers or of bytes, or an 8-bit float.
pub fn looks_quantized(tensors: &BTreeMap<String, TensorInfo>) -> bool {
    let small = |dtype| {
        is_code(dtype)
            || matches!(
                dtype,
                Dtype::U8
                    | Dtype::I16
                    | Dtype::U16
                    | Dtype::I32
                    | Dtype::U32
                    | Dtype::F4
                    | Dtype::F6_E2M3
                    | Dtype::F6_E3M2
            )
    };
    tensors.values().any(|info| small(info.dtype) && info.shape.len() > 1)
}

#[cfg(test)]
mod tests {
    use super::left_out;

    #[test]
    fn scales_of_activations_are_left_out_and_weights_are_not() {
        for key in ["a.input_scale", "a.k_scale", "e.gate_up_proj_activation_scale", "a.self_attn.kv_scale"] {
            assert!(left_out(key).is_some(), "{key}");
        }
        for key in ["a.weight_scale", "a.scale", "a.logit_scale", "a.task_scale", "v_scale.weight"] {
            assert!(left_out(key).is_none(), "{key}");
        }
    }
}
