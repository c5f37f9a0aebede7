//! The bare operations that modules are made of, whose rounding a runtime's floor is measured on.

/// A bare operation with the size that decides its rounding error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Operation {
    /// Products summed over `depth` terms: linear layers and convolutions.
    Product {
        /// Terms per sum.
        depth: i32,
    },
    /// LayerNorm over `width` values.
    LayerNorm {
        /// Values per row.
        width: i32,
    },
    /// RMSNorm over `width` values.
    RmsNorm {
        /// Values per row.
        width: i32,
    },
    /// softmax(QKᵀ)V with heads of `head_dim`.
    Attention {
        /// Width of a head.
        head_dim: i32,
    },
    /// x·Φ(x).
    Gelu,
    /// Its approximation by tanh.
    GeluTanh,
    /// x·σ(1.702x).
    QuickGelu,
    /// x·σ(x).
    Silu,
    /// Rotation by position: cosines and sines of float32 angles.
    Rope {
        /// Width of a head.
        head_dim: i32,
    },
}
