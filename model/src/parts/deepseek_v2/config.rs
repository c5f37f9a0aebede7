//! The decoder's sizes (`configuration_deepseek_v2.py`).

use serde::Deserialize;

use crate::{
    contract::Scoring,
    loading::config::{LARGEST_COUNT, LARGEST_WIDTH, beyond, divides},
};

/// Sizes of the DeepSeek-V2 decoder (`configuration_deepseek_v2.py`).
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct LanguageConfig {
    /// Entries of the token table and of the logits.
    pub vocab_size: i32,
    /// Width of the residual stream.
    pub hidden_size: i32,
    /// Inner width of the dense MLP.
    pub intermediate_size: i32,
    /// Inner width of one routed expert.
    pub moe_intermediate_size: i32,
    /// Decoder layers.
    pub num_hidden_layers: i32,
    /// Query heads.
    pub num_attention_heads: i32,
    /// Key and value heads; a divisor of `num_attention_heads`.
    pub num_key_value_heads: i32,
    /// Shared experts, computed as one MLP of `n × moe_intermediate_size`; `None` or 0: none.
    pub n_shared_experts: Option<i32>,
    /// Routed experts per MoE layer; `None`: every layer is dense.
    pub n_routed_experts: Option<i32>,
    /// Experts chosen per token.
    pub num_experts_per_tok: Option<i32>,
    /// Layers before this one are dense.
    pub first_k_dense_replace: i32,
    /// Every how many layers one is MoE.
    pub moe_layer_freq: i32,
    /// How experts are chosen.
    pub topk_method: TopkMethod,
    /// How router logits become scores.
    pub scoring_func: Scoring,
    /// Whether the chosen experts' weights are scaled to sum to 1.
    pub norm_topk_prob: bool,
    /// Factor on the chosen experts' weights.
    pub routed_scaling_factor: f32,
    /// Groups of experts, for group-limited choice.
    pub n_group: Option<i32>,
    /// Groups a token may draw from.
    pub topk_group: Option<i32>,
    /// Epsilon of every RMSNorm.
    pub rms_norm_eps: f32,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Positions the release was made for.
    pub max_position_embeddings: i32,
    /// The MLPs' activation: only `silu`.
    pub hidden_act: String,
    /// Scaled rotary positions: not supported.
    pub rope_scaling: Option<serde_json::Value>,
    /// Biases in attention: not supported.
    pub attention_bias: bool,
    /// Latent attention: not supported.
    pub use_mla: bool,
    /// An output head that is the token table: not supported.
    pub tie_word_embeddings: bool,
    /// How many of the tokens generated last are seen besides the whole prompt. Only Unlimited-OCR has such a window; a number here means
    /// nothing to another decoder.
    #[serde(default)]
    pub sliding_window: Option<i32>,
}

/// How the router picks experts (`MoEGate.forward`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TopkMethod {
    /// The k best of all.
    Greedy,
    /// The k best within the `topk_group` groups whose best expert scores highest.
    GroupLimitedGreedy,
}

impl LanguageConfig {
    /// Width of one attention head.
    pub fn head_dim(&self) -> i32 {
        self.hidden_size / self.num_attention_heads
    }

    /// Whether decoder layer `index` has experts (`DeepseekV2DecoderLayer.__init__`).
    pub fn is_moe_layer(&self, index: i32) -> bool {
        self.n_routed_experts.is_some() && index >= self.first_k_dense_replace && index % self.moe_layer_freq == 0
    }
}

impl LanguageConfig {
    /// What cannot be, and what this decoder does not compute.
    pub fn violations(&self) -> Vec<String> {
        let sizes = [
            ("vocab_size", self.vocab_size, LARGEST_WIDTH),
            ("hidden_size", self.hidden_size, LARGEST_WIDTH),
            ("intermediate_size", self.intermediate_size, LARGEST_WIDTH),
            ("moe_intermediate_size", self.moe_intermediate_size, LARGEST_COUNT * 4),
            ("num_hidden_layers", self.num_hidden_layers, LARGEST_COUNT),
            ("num_attention_heads", self.num_attention_heads, LARGEST_COUNT),
            ("num_key_value_heads", self.num_key_value_heads, LARGEST_COUNT),
            ("n_routed_experts", self.n_routed_experts.unwrap_or(1), LARGEST_COUNT),
            ("n_shared_experts", self.n_shared_experts.unwrap_or(1).max(1), LARGEST_COUNT),
            ("moe_layer_freq", self.moe_layer_freq, LARGEST_COUNT),
        ];
        let mut out = beyond("language_config", &sizes);
        let rules = [
            (divides(self.num_attention_heads, self.hidden_size), "num_attention_heads must divide hidden_size"),
            (
                self.num_attention_heads < 1 || self.head_dim() % 2 == 0,
                "hidden_size / num_attention_heads must be even: positions rotate pairs",
            ),
            (
                divides(self.num_key_value_heads, self.num_attention_heads),
                "num_key_value_heads must divide num_attention_heads",
            ),
        ];
        out.extend(rules.into_iter().filter(|(holds, _)| !holds).map(|(_, text)| text.to_owned()));
        out.extend(self.unsupported());
        out.extend(self.moe_violations());
        out
    }

    /// What this decoder does not compute, where the config asks for it.
    fn unsupported(&self) -> Vec<String> {
        let found = [
            (self.hidden_act != "silu", format!("hidden_act `{}`: only `silu` is supported", self.hidden_act)),
            (self.rope_scaling.is_some(), "rope_scaling: only null is supported".to_owned()),
            (self.attention_bias, "attention_bias: only false is supported".to_owned()),
            (self.use_mla, "use_mla: only false is supported".to_owned()),
            (self.tie_word_embeddings, "tie_word_embeddings: only false is supported".to_owned()),
        ];
        found.into_iter().filter_map(|(wrong, text)| wrong.then_some(text)).collect()
    }

    fn moe_violations(&self) -> Vec<String> {
        let Some(experts) = self.n_routed_experts else { return Vec::new() };
        let mut out = Vec::new();
        let chosen = self.num_experts_per_tok.unwrap_or(0);
        if experts < 1 || chosen < 1 || chosen > experts {
            out.push(format!("num_experts_per_tok = {chosen}: expected 1 to n_routed_experts = {experts}"));
        }
        if self.topk_method == TopkMethod::GroupLimitedGreedy {
            let (groups, topk) = (self.n_group.unwrap_or(0), self.topk_group.unwrap_or(0));
            if groups < 1 || experts % groups != 0 || topk < 1 || topk > groups {
                out.push(format!("n_group = {groups}, topk_group = {topk}: do not fit {experts} experts"));
            } else if topk * (experts / groups) < chosen {
                out.push(format!("{topk} groups of {} hold fewer than {chosen} experts", experts / groups));
            }
        }
        out
    }
}
