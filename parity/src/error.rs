//! What keeps a parity run from a verdict: everything here is exit code 2, never a divergence.

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What keeps a parity run from a verdict.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The model could not be loaded or run.
    #[error(transparent)]
    Model(#[from] mlxport_model::Error),
    /// The fixture is unusable.
    #[error(transparent)]
    Fixture(#[from] mlxport_fixtures::FixtureError),
    /// MLX refused an operation.
    #[error("MLX: {0}")]
    Mlx(#[from] mlx_rs::error::Exception),
    /// A tensor could not be borrowed from MLX.
    #[error("MLX: {0}")]
    Slice(#[from] mlx_rs::error::AsSliceError),
    /// Fixture and model are not of one kind.
    #[error("{0}")]
    Mismatch(String),
    /// What was asked for is not to be had here.
    #[error("{0}")]
    Environment(String),
}
