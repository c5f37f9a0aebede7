//! Faults that can be planted in the graph, to show that the checks catch them.
//!
//! Each is a mistake that a real port of this model made or could make. A model is loaded without any; only
//! `mlxport parity --mutate` and the tests ask for one.

/// Which faults are planted. The default is none: the model as released.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Faults {
    /// CLIP's position table is resampled without antialias.
    pub clip_table_without_antialias: bool,
    /// CLIP's MLP uses the exact GELU instead of quick_gelu.
    pub clip_exact_gelu: bool,
    /// SAM's MLP uses quick_gelu instead of the exact GELU.
    pub sam_quick_gelu: bool,
    /// Tiles are laid out column by column instead of row by row.
    pub tiles_in_column_order: bool,
}
